"""The router: which language is a sequence of token ids? The names of its classifiers and their options."""

from mome.checks import check_choice, check_range

N_SPECIAL = 3  # <pad>, <s> and </s>, the first ids, say nothing about the language
# The options of each classifier and their defaults; `classifiers.make_classifier` says what they do.
CLASSIFIER_OPTIONS = {name: {"n_special": N_SPECIAL, **options} for name, options in {
    "majority": {}, "multinomial_nb": {"smoothing": 1.0}, "complement_nb": {"smoothing": 1.0},
    "logistic_regression": {"C": 0.01, "max_iter": 1_000},
    "logistic_regression_l2": {"C": 1.0, "max_iter": 1_000},
    "sgd_modified_huber": {"l2": 1e-4, "max_iter": 1_000}, "linear_svm": {"C": 1.0, "max_iter": 1_000},
    "k_nearest_neighbours": {"n_neighbours": 5}, "random_forest": {"n_trees": 100},
    "gradient_boosting": {"n_tokens": 512, "max_iter": 30}, "neural_net": {"n_hidden": 32, "max_iter": 100},
    "paper_pipeline": {"l2": 1e-4, "max_iter": 1_000}}.items()}
CLASSIFIERS = tuple(CLASSIFIER_OPTIONS)


def check_classifier_options(name: str, options=()) -> dict[str, int | float]:
    """Return a classifier's options, defaults changed by `options` (mapping or pairs), or ValueError."""
    check_choice("classifier", name, CLASSIFIERS)
    chosen = dict(CLASSIFIER_OPTIONS[name])
    for option, value in dict(options).items():
        check_choice(f"option of {name}", option, chosen)
        is_whole = isinstance(chosen[option], int)
        if is_whole and isinstance(value, float) and value.is_integer():  # as recipes hold numbers
            value = int(value)
        check_range(option, value, (0 if option == "n_special" else 1) if is_whole else 1e-9, whole=is_whole)
        chosen[option] = value if is_whole else float(value)
    return chosen
