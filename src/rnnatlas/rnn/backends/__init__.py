"""Ways to run a population; `rnnatlas.rnn.run` picks one and nobody else knows them."""
