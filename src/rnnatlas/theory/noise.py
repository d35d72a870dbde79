"""What wrong answers cost: trained RNNs are noisy versions of the functions that they learned."""

import math

from rnnatlas.errors import SettingsError


def check(wrong: float, risk: float) -> None:
    """Makes sure that answers are right more often than not, and that some risk is taken.

    Raises:
        SettingsError: They are not, or none is.
    """
    if not 0 <= wrong < 0.5:
        raise SettingsError(
            f"the probability of a wrong answer should be 0 or more and below 0.5, found {wrong}; where more "
            "answers are wrong than right, repeating does not help"
        )
    if not 0 < risk < 1:
        raise SettingsError(
            f"the risk of naming a wrong function should lie between 0 and 1, found {risk}; take 0.05"
        )


def repetitions(wrong: float, queries: int, risk: float) -> int:
    """How often to ask each query, so that all majorities together are right but for the risk.

    Answers are wrong independently, each with probability `wrong`. The smallest odd R with
    queries · P(Bin(R, wrong) > R/2) ≤ risk; a strategy of that depth then needs queries · R answers.
    """
    check(wrong, risk)
    return _least_odd(lambda asked: queries * _half_wrong(asked, wrong) <= risk)


def redundancy(wrong: float, functions: int, risk: float) -> int:
    """In how many answers functions have to differ, so that the nearest is the right one but for the risk.

    The smallest odd D with (functions − 1) · P(Bin(D, wrong) > D/2) ≤ risk: another function is nearer only
    if of the answers in which the two differ more than half are wrong; differing in more of them is safer.
    """
    check(wrong, risk)
    return _least_odd(lambda apart: (functions - 1) * _half_wrong(apart, wrong) <= risk)


def fewest(wrong: float, functions: int, answers: int, risk: float) -> int:
    """A lower bound on the queries of any strategy, interactive or not, by what answers can tell.

    A wrong answer is any of the others alike, so an answer carries at most the capacity of the symmetric
    channel, log₂ r − h(wrong) − wrong log₂(r − 1) bits, also where queries depend on earlier answers; and a
    risk leaves at most h(risk) + risk log₂(n − 1) bits open (Fano). Functions are equally probable.
    """
    check(wrong, risk)
    if functions == 1:
        return 0
    capacity = math.log2(answers) - _entropy(wrong) - wrong * math.log2(answers - 1)
    told = math.log2(functions) - _entropy(risk) - risk * math.log2(functions - 1)
    return max(1, math.ceil(told / capacity - 1e-9))


def _half_wrong(asked: int, wrong: float) -> float:
    """Probability that more than half of an odd number of answers are wrong."""
    from scipy.stats import binom

    return float(binom.sf(asked // 2, asked, wrong))


def _least_odd(enough) -> int:
    count = 1
    while not enough(count):
        count += 2
    return count


def _entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
