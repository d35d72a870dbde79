"""Ways to run a population; `rnnatlas.rnn.running` picks one and nobody else knows them."""
