"""The model card: what an exported network is, how good it is, and what it must not be used for.

Its sections are those of Mitchell et al., 2019, "Model Cards for Model Reporting", section 4, as far as they are known.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdas_tf import files, formats
from kdas_tf.drawing import pictures
from kdas_tf.evaluation.printing import millions
from kdas_tf.models.cells import as_genotype

FILE = "assets.extra/model_card.md"
PICTURE = "assets.extra/genotype.png"

_USE = """\
| signature | input | output |
| --- | --- | --- |
| `serving_default`, `embed` | `images`: uint8 `[batch, height, width, 3]`, RGB, any size | `embedding`, `error` |
| `embed_jpeg` | `image_bytes`: JPEG or PNG files `[batch]`, sizes may differ | `embedding`, `error` |

`embedding` is float32 `[batch, {facts.embedding_size}]`, rows of length 1. Compare two by 1 - their dot product, 0 to
2. Images are resized to {facts.image_size[0]}x{facts.image_size[1]} (height x width) inside. `error` is a string
`[batch]`: what is wrong with an image, whose embedding is of zeros then; empty where all is well. A wrong image fails
no other image, of this request or of those that a server puts into one batch with it. (An export with
`export.Server.tells_errors=False` has no `error`: there a wrong image fails the request.)

`embed_jpeg` turns files as the orientation in their EXIF data says; whoever sends pixels, here or to a copy for another
runtime, turns them before (Pillow: `ImageOps.exif_transpose`). It refuses files of too many pixels, of more than
{formats.MAX_SCANS} scans, of more scans times pixels than {formats.MAX_SCANNED:,}, and of more bytes than
{formats.MORE_BYTES:,} and {formats.BYTES_PER_PIXEL} a pixel. It cannot bound the time that a request takes, nor the
number of its files: let a deadline and a proxy do so, and check files before (`kdas_tf.client` does).
"""

_INTENDED = """\
Given photographs of people cut out of the frames of several cameras, the model gives vectors that are near to each
other where the same person is likely to be seen, by clothes and build. It is made to find candidates that a human then
looks at, on cameras whose people were told and where the law allows it, and for research.

**This recognises people.** Its vectors are personal data, in many places biometric data: store them as such, for as
short as you can, and give people access to and deletion of theirs. Do not use it to identify people covertly, to decide
about a person without a human, to infer who somebody is (origin, belief, health, mood), or to watch whole crowds.
"""

_LIMITS = """\
- It compares clothes more than faces: a person who changes them is another person, two people in the same uniform are
  one person.
- Outside of the data it was trained on (other cameras, climates, seasons, crops, ages, clothes), it is worse than the
  numbers above, and only an evaluation there tells by how much. Errors are not the same for all groups of people;
  none of the numbers above says how they differ.
- A false-positive rate counts pairs: at 0.001, every search among 10,000 other people brings up ten of them. In a
  large gallery most of what is below a threshold can be wrong.
- Images must be crops of one upright person. Anything else gets a vector, too: it does not say "nobody".
- Whoever controls the pixels (a print, a pattern, a replayed photograph) can choose the vector.
"""


class Facts(NamedTuple):
    """What a model card says."""

    name: str
    version: int
    kind: str  # class of the network
    config: Mapping[str, Any]  # arguments of that class
    parameters: int | None  # that were trained, with the classifier
    image_size: tuple[int, int]  # (height, width) in pixels that the network sees
    embedding_size: int
    data: tuple[str, str] | None  # name and table of the data set that it was trained on, if it is known
    training: Mapping[str, Any]  # numbers of the training stage
    settings: Mapping[str, Any]  # of the training stage
    metrics: Mapping[str, Any] | None  # of the evaluate stage for this very network as it is served; None if not judged
    thresholds: Mapping[str, Any] | None  # the evaluate stage's `verification.json`, if there is one
    not_judged: str  # why there are no metrics
    made: Mapping[str, Any]  # what the files were made from: hashes, versions, the largest difference to the network


def write(folder: Path, facts: Facts) -> None:
    """Writes the card, and the genotype's picture where the network has a genotype, into a SavedModel's folder."""
    if "genotype" in facts.config:
        figure = pictures.draw_genotype(as_genotype(facts.config["genotype"]), f"{facts.name}, version {facts.version}")
        pictures.save(figure, folder / PICTURE)
    with files.replacing(folder / FILE) as partial:
        partial.write_text(render(facts), encoding="utf-8")


def render(facts: Facts) -> str:
    """The card's text, Markdown."""
    sections = {
        "Use": _USE.format(facts=facts, formats=formats),
        "Intended use": _INTENDED,
        "Architecture": _architecture(facts),
        "Data": _data(facts),
        "How good it is": _metrics(facts),
        "Thresholds": _thresholds(facts.thresholds),
        "Limits": _LIMITS,
        "Made from": _table(("what", "value"), facts.made.items()),
    }
    title = f"# {facts.name}, version {facts.version}"
    what = "Embeddings of photographs of people, for person re-identification."
    return "\n\n".join([title, what, *(f"## {name}\n\n{text.strip()}" for name, text in sections.items())]) + "\n"


def _architecture(facts: Facts) -> str:
    parameters = f", {millions(facts.parameters)} M parameters in training" if facts.parameters else ""
    picture = f"![The cells]({Path(PICTURE).name})\n\n" if "genotype" in facts.config else ""
    return (
        f"{facts.kind}{parameters}; inference only, batch normalisation folded, without the classifier.\n\n"
        f"{picture}{_json(facts.config)}"
    )


def _data(facts: Facts) -> str:
    text = "Not known: the run that trained the network holds no index of its data."
    if facts.data is not None:
        text = f"Trained on {facts.data[0]}.\n\n```text\n{facts.data[1]}\n```"
    return f"{text}\n\nTrained with these settings:\n\n{_json(facts.settings)}" if facts.settings else text


def _metrics(facts: Facts) -> str:
    text = facts.not_judged
    if facts.metrics is not None:
        metrics = facts.metrics
        shown = [(name, f"{100 * metrics[name]:.1f}") for name in ("mAP", "mINP", "rank1", "rank5", "rank10")]
        conventions = {name: rule for name, rule in metrics.get("conventions", {}).items() if name != "unit"}
        text = (
            f"Judged by the evaluate stage on {metrics['data']}: {metrics['queries']:,} queries, "
            f"{metrics['gallery']:,} gallery images.\n\n{_table(('measure', 'percent'), shown)}\n\n"
        ) + "\n".join(f"- {name.replace('_', ' ')}: {rule}" for name, rule in conventions.items())
    return f"{text}\n\nThe results of training, in percent:\n\n{_json(facts.training)}" if facts.training else text


def _thresholds(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return "None were measured. Do not guess one: run the evaluate stage on your own data (`verification.json`)."
    points = [
        (f"{point['asked']:g}", f"{point['threshold']:.4f}", f"{point['fpr']:.2g}", f"{100 * point['tpr']:.1f}")
        for point in measured["points"]
    ]
    header = ("false-positive rate at most", "threshold", "measured", "true positives, percent")
    return (
        f"Two photographs are taken for one person where their {measured['distance']} distance is at most this:\n\n"
        f"{_table(header, points)}\n\nFrom {measured['pairs_of_one_person']:,} pairs of one person and "
        f"{measured['pairs_of_different_people']:,} of different people."
    )


def _json(content: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(content, indent=1)}\n```"


def _table(header: Sequence[str], rows: Iterable[tuple]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
