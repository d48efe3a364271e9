"""The model card: what an exported network is, how good it is, and what it must not be used for.

Its sections are those of Mitchell et al., 2019, "Model Cards for Model Reporting", section 4, as far as they are known.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdas_tf import files
from kdas_tf.drawing import pictures
from kdas_tf.genotype import Genotype
from kdas_tf.models.cells import as_genotype

FILE = "assets.extra/model_card.md"
PICTURE = "assets.extra/genotype.png"

INTENDED = """\
Given photographs of people cut out of the frames of several cameras, the model gives vectors that are near to each
other where the same person is likely to be seen, by clothes and build. It is made to find candidates that a human then
looks at, on cameras whose people were told and where the law allows it, and for research.

**This recognises people.** Its vectors are personal data, in many places biometric data: store them as such, for as
short as you can, and give people access to and deletion of theirs. Do not use it to identify people covertly, to decide
about a person without a human, to infer who somebody is (origin, belief, health, mood), or to watch whole crowds.
"""

LIMITS = """\
- It compares clothes more than faces: a person who changes them is another one, and two in the same uniform are one.
- Outside of the data it was trained on (other cameras, climates, seasons, crops, ages, clothes), it is worse than the
  numbers above, by how much only an evaluation there can tell. Errors are not the same for all groups of people;
  none of the numbers above says how they differ.
- A false-positive rate counts pairs: at 0.001, every search among 10,000 other people brings up ten of them. In a
  large gallery most of what is below a threshold can be wrong.
- Images must be crops of one upright person. Anything else gets a vector, too: it does not say "nobody".
- Whoever controls the pixels (a print, a pattern, a replayed photograph) can choose the vector.
"""


class Facts(NamedTuple):
    """What a model card says.

    Attributes:
        name: of the model.
        version: number of the version.
        kind: class of the network.
        config: arguments of that class.
        parameters: trainable ones in training, classifier included.
        image_size: (height, width) in pixels that the network sees.
        embedding_size: D.
        data: name and table of the data set it was trained on; None if that is not known.
        training: numbers that the training stage left.
        settings: with which that stage was run.
        metrics: numbers that the evaluate stage left of this very network; None if it was not judged.
        thresholds: what the evaluate stage wrote as `verification.json`; None if there is none.
        made: what the files were made from: hashes, versions of packages, the largest difference to the network.
    """

    name: str
    version: int
    kind: str
    config: Mapping[str, Any]
    parameters: int | None
    image_size: tuple[int, int]
    embedding_size: int
    data: tuple[str, str] | None
    training: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    thresholds: Mapping[str, Any] | None
    made: Mapping[str, Any]


def write(folder: Path, facts: Facts) -> None:
    """Writes the card, and the genotype's picture where the network has one, into a SavedModel's folder."""
    genotype = genotype_of(facts)
    if genotype is not None:
        pictures.save(pictures.draw_genotype(genotype, f"{facts.name}, version {facts.version}"), folder / PICTURE)
    with files.replacing(folder / FILE) as partial:
        partial.write_text(render(facts), encoding="utf-8")


def genotype_of(facts: Facts) -> Genotype | None:
    """The architecture of a searched network; None for others."""
    return as_genotype(facts.config["genotype"]) if "genotype" in facts.config else None


def render(facts: Facts) -> str:
    """The card's text, Markdown."""
    parts = [
        f"# {facts.name}, version {facts.version}",
        "Embeddings of photographs of people, for person re-identification.",
        *_section("Use", _use(facts)),
        *_section("Intended use", [INTENDED.strip()]),
        *_section("Architecture", _architecture(facts)),
        *_section("Data", _data(facts)),
        *_section("How good it is", _metrics(facts)),
        *_section("Thresholds", _thresholds(facts)),
        *_section("Limits", [LIMITS.strip()]),
        *_section("Made from", [_table(("what", "value"), facts.made.items())]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, parts: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield f"## {title}"
    yield from parts


def _use(facts: Facts) -> Iterator[str]:
    yield _table(
        ("signature", "input", "output"),
        [
            ("`serving_default`, `embed`", "`images`: uint8 `[batch, height, width, 3]`, RGB, any size", "`embedding`"),
            ("`embed_jpeg`", "`image_bytes`: JPEG or PNG files `[batch]`, sizes may differ", "`embedding`"),
        ],
    )
    yield (
        f"`embedding` is float32 `[batch, {facts.embedding_size}]`, rows of length 1. Compare two by 1 - their dot "
        f"product, 0 to 2. Images are resized to {facts.image_size[0]}x{facts.image_size[1]} (height x width) inside."
    )


def _architecture(facts: Facts) -> Iterator[str]:
    parameters = f", {facts.parameters / 1e6:.2f} M parameters in training" if facts.parameters else ""
    yield f"{facts.kind}{parameters}; inference only, batch normalisation folded, without the classifier."
    if genotype_of(facts) is not None:
        yield f"![The cells]({Path(PICTURE).name})"
    yield _json(facts.config)


def _data(facts: Facts) -> Iterator[str]:
    if facts.data is None:
        yield "Not known: the run that trained the network holds no index of its data."
    else:
        yield f"Trained on {facts.data[0]}."
        yield f"```text\n{facts.data[1]}\n```"
    if facts.settings:
        yield f"Trained with these settings:\n\n{_json(facts.settings)}"


def _metrics(facts: Facts) -> Iterator[str]:
    if facts.metrics is None:
        yield "This network was not judged by the evaluate stage before it was exported."
    else:
        shown = {name: facts.metrics[name] for name in ("mAP", "mINP", "rank1", "rank5", "rank10")}
        sizes = f"{facts.metrics['queries']:,} queries, {facts.metrics['gallery']:,} gallery images"
        yield f"Judged by the evaluate stage on {facts.metrics['data']}: {sizes}."
        yield _table(("measure", "percent"), [(name, f"{100 * value:.1f}") for name, value in shown.items()])
        conventions = {name: text for name, text in facts.metrics.get("conventions", {}).items() if name != "unit"}
        yield "\n".join(f"- {name.replace('_', ' ')}: {text}" for name, text in conventions.items())
    if facts.training:
        yield f"What training left, in percent:\n\n{_json(facts.training)}"


def _thresholds(facts: Facts) -> Iterator[str]:
    if facts.thresholds is None:
        yield 'None were measured. Do not guess one: run the evaluate stage on your own data ("verification.json").'
        return
    points = [
        (f"{point['asked']:g}", f"{point['threshold']:.4f}", f"{point['fpr']:.2g}", f"{100 * point['tpr']:.1f}")
        for point in facts.thresholds["points"]
    ]
    distance = facts.thresholds["distance"]
    yield f"Two photographs are taken for one person where their {distance} distance is at most this:"
    yield _table(("false-positive rate at most", "threshold", "measured", "true positives, percent"), points)
    yield (
        f"From {facts.thresholds['pairs_of_one_person']:,} pairs of one person and "
        f"{facts.thresholds['pairs_of_different_people']:,} of different people."
    )


def _json(content: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(content, indent=1)}\n```"


def _table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
