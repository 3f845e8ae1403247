"""What each command's arguments ask for, as plain requests.

The toolkit's form (``LinearRegression y from a b into m``) and key=value forms (``algo=.. target=y``) may be
mixed. Hyperparameters stay text: the service knows the algorithms. Wildcards stay as they are, too.
"""

from __future__ import annotations

from kepler_app.errors import SearchError
from kepler_app.lexer import (
    Arguments,
    Word,
    boolean,
    choice,
    duration_s,
    integer,
    parse,
    share,
    split_list,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

OUTPUTS = ("predictions", "summary", "none")
NULLS = ("drop", "impute", "native")
CATEGORICALS = ("onehot", "target", "native")
ON_MISSING = ("warn", "error", "null")
DEFAULT_TIMEOUT_S = 600.0
MAX_TIMEOUT_S = 7 * 86400.0
_TRAIN_FORM = "Write keplertrain <algorithm> <target> from <field> ... [by <field> ...] [into <model>] [as <name>] [option=value ...]"
_PREDICT_FORM = (
    "Write keplerpredict <model>[@version] [as <name>] [probabilities=true] [on_missing=warn|error|null]"
)
_SCORE_FORM = "Write keplerscore <method>[,<method> ...] <actual field> ... against <predicted field> ... [by <field> ...]"


class TrainRequest:
    """A training as its search asks for it."""

    def __init__(self) -> None:
        self.algorithm = ""
        self.target = ""
        self.features: list[str] = []
        self.by: list[str] = []
        self.into = ""
        self.as_name = ""
        self.params: dict[str, str] = {}
        self.output = "predictions"
        self.nulls = "drop"
        self.categoricals = "onehot"
        self.seed: int | None = None
        self.test_size = 0.0
        self.kfold_cv = 0
        self.fold_rows = False  # the answer is one row for each fold, as the toolkit's
        self.partial_fit = False
        self.probabilities = False
        self.tags: list[str] = []
        self.dry_run = False
        self.wait = True
        self.timeout_s = DEFAULT_TIMEOUT_S

    def named_fields(self) -> list[str]:
        """Fields named without a wildcard."""
        names = [self.target, *self.features, *self.by]
        return [name for name in dict.fromkeys(names) if name and "*" not in name]


class PredictRequest:
    """A prediction as its search asks for it."""

    def __init__(self) -> None:
        self.model = ""
        self.as_name = ""
        self.probabilities = False
        self.on_missing = "warn"
        self.overrides: dict[str, str] = {}


class ScoreRequest:
    """A comparison of columns as its search asks for it."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.actual: list[str] = []
        self.predicted: list[str] = []
        self.by: list[str] = []
        self.params: dict[str, str] = {}


def _sections(words: list[Word], keywords: tuple[str, ...], form: str) -> dict[str, list[Word]]:
    """Words under the keyword they follow; the ones before any keyword under ""."""
    sections: dict[str, list[Word]] = {"": []}
    current = ""
    for word in words:
        keyword = next((item for item in keywords if word.is_keyword(item)), "")
        if not keyword:
            sections[current].append(word)
            continue
        if keyword in sections:
            raise SearchError(f"The word '{keyword}' stands twice. {form}.")
        sections[keyword] = []
        current = keyword
    for keyword in keywords:
        if keyword in sections and not sections[keyword]:
            raise SearchError(f"Nothing follows the word '{keyword}'. {form}.")
    return sections


def _one(sections: dict[str, list[Word]], keyword: str, option: str, given: str, what: str) -> str:
    """The single name after ``keyword`` or in the option, which must not both be there."""
    words = sections.get(keyword, [])
    if words and given:
        raise SearchError(f"Both '{keyword}' and {option}= name {what}. Give one of them.")
    if len(words) > 1:
        raise SearchError(
            f"'{keyword}' takes one name, but {len(words)} follow: {' '.join(word.text for word in words)[:80]!r}. "
            "Put a name with blanks in double quotes."
        )
    return words[0].text if words else given


def _names(words: Iterable[Word], option: str, given: str, keyword: str) -> list[str]:
    """Names from words (a quoted comma list is several only after ``by``) or from a comma list option."""
    names = [word.text for word in words]
    if names and given:
        raise SearchError(f"Both '{keyword}' and {option}= name fields. Give one of them.")
    return list(dict.fromkeys(names or split_list(given)))


def _by(sections: dict[str, list[Word]], given: str) -> list[str]:
    """Fields after ``by``: bare words as in SPL, or one quoted comma list as in the toolkit."""
    words = sections.get("by", [])
    if words and given:
        raise SearchError("Both 'by' and by= name fields. Give one of them.")
    names = [name for word in words for name in split_list(word.text)] or split_list(given)
    return list(dict.fromkeys(names))


def parse_train(raw_args: Iterable[str]) -> TrainRequest:
    """Read the arguments of keplertrain. Raises `SearchError` that names what was expected."""
    arguments = parse(raw_args)
    request = TrainRequest()
    # Beside words, algorithm= is a parameter: LocalOutlierFactor and the neighbours have one of that name.
    given_algorithm = arguments.take("algo") or ("" if arguments.words else arguments.take("algorithm"))
    target = arguments.take("target")
    features = arguments.take("features", "fields")
    sections = _sections(arguments.words, ("from", "by", "into", "as"), _TRAIN_FORM)
    words = sections[""]
    if given_algorithm:
        request.algorithm = given_algorithm
    elif words:
        request.algorithm = words.pop(0).text
    else:
        raise SearchError(f"No algorithm is named. {_TRAIN_FORM}.")
    _read_fields(request, words, sections, target, features)
    request.by = _by(sections, arguments.take("by"))
    request.into = _one(sections, "into", "into", arguments.take("into", "model"), "the model")
    request.as_name = _one(sections, "as", "as", arguments.take("as"), "the output")
    _read_train_options(request, arguments)
    request.params = dict(arguments.options)
    return request


def _read_fields(
    request: TrainRequest, words: list[Word], sections: dict[str, list[Word]], target: str, features: str
) -> None:
    """Set target and features from the words before ``from``, the words after it, and the options."""
    if "from" in sections:
        if target and words:
            raise SearchError(
                f"Both target= and {words[0].text[:60]!r} before 'from' name the target. Give one of them."
            )
        if len(words) > 1:
            listed = " ".join(word.text for word in words)
            raise SearchError(
                f"One target stands before 'from', but there are {len(words)}: {listed[:80]!r}. {_TRAIN_FORM}."
            )
        request.target = words[0].text if words else target
        request.features = _names(sections["from"], "features", features, "from")
    else:
        request.target = target
        request.features = _names(words, "features", features, "the list of fields")
    if not request.features:
        if not target:
            raise SearchError(f"No fields are named. {_TRAIN_FORM}.")
        request.features = ["*"]
    if "*" in request.target:
        raise SearchError(f"The target {request.target!r} has a wildcard. Name one field.")


def _read_train_options(request: TrainRequest, arguments: Arguments) -> None:
    """Take the options that are keplertrain's own; the rest are hyperparameters."""
    take = arguments.take
    output = take("output")
    request.output = choice("output", output or "predictions", OUTPUTS)
    request.nulls = choice("nulls", take("nulls", default="drop"), NULLS)
    request.categoricals = choice("categoricals", take("categoricals", default="onehot"), CATEGORICALS)
    seed = take("seed")
    request.seed = integer("seed", seed, 0, 2**32 - 1) if seed else None
    request.test_size = share("test_size", take("test_size", default="0"))
    folds = take("kfold_cv")
    request.kfold_cv = integer("kfold_cv", folds, 2, 100) if folds else 0
    if request.kfold_cv and not output:
        request.fold_rows, request.output = True, "summary"
    request.partial_fit = boolean("partial_fit", take("partial_fit", default="false"))
    request.probabilities = boolean("probabilities", take("probabilities", default="false"))
    request.tags = split_list(take("tags"))
    request.dry_run = boolean("dry_run", take("dry_run", default="false"))
    request.wait = boolean("wait", take("wait", default="true"))
    request.timeout_s = timeout_s(take("timeout"))
    if request.partial_fit and not request.into:
        raise SearchError("partial_fit=true goes on from a model, but none is named. Add 'into <model>'.")


def timeout_s(text: str) -> float:
    """Seconds of ``timeout=``: 1 s to 7 days, 600 s when empty."""
    if not text:
        return DEFAULT_TIMEOUT_S
    seconds = duration_s("timeout", text)
    if not 1 <= seconds <= MAX_TIMEOUT_S:
        raise SearchError(f"Invalid value {text!r} for timeout=: must be from 1s to 7d.")
    return seconds


def parse_predict(raw_args: Iterable[str]) -> PredictRequest:
    """Read the arguments of keplerpredict; options it doesn't know go to the model, which may."""
    arguments = parse(raw_args)
    request = PredictRequest()
    sections = _sections(arguments.words, ("as",), _PREDICT_FORM)
    words = sections[""]
    model = arguments.take("model")
    if len(words) + bool(model) != 1:
        found = "No model is named" if not words and not model else "More than one model is named"
        raise SearchError(f"{found}. {_PREDICT_FORM}.")
    request.model = model or words[0].text
    request.as_name = _one(sections, "as", "as", arguments.take("as"), "the output")
    request.probabilities = boolean("probabilities", arguments.take("probabilities", default="false"))
    request.on_missing = choice("on_missing", arguments.take("on_missing", default="warn"), ON_MISSING)
    request.overrides = dict(arguments.options)
    return request


def parse_score(raw_args: Iterable[str]) -> ScoreRequest:
    """Read the arguments of keplerscore: methods, then fields left and right of ``against`` (or ``~``)."""
    arguments = parse(raw_args)
    words = [Word("against") if word.is_keyword("~") else word for word in arguments.words]
    request = ScoreRequest()
    request.methods = split_list(arguments.take("methods", "method"))
    if not request.methods and words:
        request.methods = [words.pop(0).text]
        while words and words[0].joined:
            request.methods.append(words.pop(0).text)
        request.methods = [name for text in request.methods for name in split_list(text)]
    if not request.methods:
        raise SearchError(f"No method is named. {_SCORE_FORM}.")
    sections = _sections(words, ("against", "by"), _SCORE_FORM)
    request.actual = _names(sections[""], "actual", arguments.take("actual"), "against")
    request.predicted = _names(
        sections.get("against", []), "predicted", arguments.take("predicted"), "against"
    )
    request.by = _by(sections, arguments.take("by"))
    if not request.actual:
        raise SearchError(f"No field is named to score. {_SCORE_FORM}.")
    request.params = dict(arguments.options)
    return request
