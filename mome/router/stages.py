"""Routers that are fitted again in every stage of sequential training, by what they may look at."""

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import MultinomialNB

from mome.data.packing import PackedData
from mome.router.classifiers import count_tokens, make_classifier


def refit_routers(data: PackedData, order: list[str], rows_per_language: int) -> pd.DataFrame:
    """Return what each fit reads after each stage: fit, stage, language, recall (of validation rows).

    Fits of at most `rows_per_language`: "all data so far", "new data only", "counts of each language".
    """
    vocab_size, labels, rows = len(data.tokenizer), np.arange(len(order)), []
    fresh = [data.rows("train")[data.row_numbers("train", name, rows_per_language)] for name in order]
    held_out = [data.rows("validation")[data.row_numbers("validation", name)] for name in order]
    frequencies, counting = TfidfTransformer(use_idf=False), MultinomialNB()
    forgetful = SGDClassifier(loss="log_loss", random_state=0)
    for stage in labels:
        counts = count_tokens(fresh[stage], vocab_size)
        taught = np.full(counts.shape[0], stage)
        forgetful.partial_fit(frequencies.fit_transform(counts), taught, classes=labels)
        with np.errstate(divide="ignore"):  # of the log prior of languages that are still to come
            counting.partial_fit(counts, taught, classes=labels)
        seen, name = fresh[:stage + 1], "logistic_regression" if stage else "majority"  # of one language
        remembering = make_classifier(name, vocab_size).fit(
            np.concatenate(seen), np.repeat(labels[:stage + 1], [len(part) for part in seen]))
        for language in labels[:stage + 1]:
            read = count_tokens(held_out[language], vocab_size)
            answers = {"all data so far": remembering.predict(held_out[language]),
                       "new data only": forgetful.predict(frequencies.transform(read)),
                       "counts of each language": counting.predict(read)}
            rows += [{"fit": fit, "stage": order[stage], "language": order[language],
                      "recall": float((answer == language).mean())} for fit, answer in answers.items()]
    return pd.DataFrame(rows)
