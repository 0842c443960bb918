"""The labeling config of Label Studio (XML) for a set of kinds.

    config([KINDS["answer"]], catalogue, documents=1, ranked=0)
    ->  <View><Header value="Question"/><Text name="question" value="$question" valueType="text"/> …
        <Choices name="answer__verdict__choice" toName="question" choice="single-radio" required="true"> …</View>

What was logged is hostile, and reaches the page through the task's data in `Text` only: `Markdown` runs scripts of its text in the
page's origin, `HyperText` and every `html` attribute load what the text names (measured). The names of the controls say the kind,
the field and its type, so that an answer can be read without the config that asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tasks.kinds import APPROVED, CHOICE, CHOICES, RANKING, RATING, SPANS, TEXT, Field, Kind
from tasks.records import Approved

NONE = "(none of these)"  # chosen for an empty list: nothing chosen at all is a field that was forgotten
ALL_MARKED, NOTHING = "all are marked", "there is nothing to mark"
UNACCEPTABLE = "unacceptable"
TAGS = {"View", "Header", "Text", "Repeater", "Choices", "Choice", "Labels", "Label", "TextArea"}
COLOURS = ("#d4526e", "#e0902f", "#7d7d7d", "#3e7cb1", "#4f9d69", "#8a5fb0", "#a0522d", "#2f8f8f")
LONG = 12  # options; more are a drop-down list


def config(kinds: Sequence[Kind], catalogue: Sequence[Approved], documents: int, ranked: int) -> str:
    """The XML. `documents` and `ranked`: the most documents, and answers to rank, that any of the candidates has."""
    view = ET.Element("View")
    # Repeated, not `Paragraphs`, which breaks the page where a list is empty.
    _repeated(view, "history", "message")
    _text(view, "Question", "question")
    _repeated(view, "contexts", "document", _graded(kinds))
    if any(k.main.type != RANKING for k in kinds):
        _text(view, "Answer", "response")
    for kind in kinds:
        ET.SubElement(view, "Header", value=shown(kind.question))
        for field in kind.fields:
            _FIELDS[field.type](view, kind, field, catalogue, documents, ranked)
    return ET.tostring(view, encoding="unicode")


def instruction(guidelines: Sequence[str]) -> str:
    """The guidelines as the instruction that Label Studio shows, which it takes for HTML: here it is text."""
    box = ET.Element("div")
    for text in guidelines:
        ET.SubElement(box, "pre", style="white-space: pre-wrap").text = text
    return ET.tostring(box, encoding="unicode")


def control(kind: str, field: str, type: str, *rest: str) -> str:
    """The name of a control: 'relevance__grades__rating__0'. `parts` reads it."""
    return "__".join((_encoded(kind), _encoded(field), type, *rest))


def parts(name: str) -> list[str]:
    """[kind, field, type, …] of a control's name; fewer for a name that is none of ours."""
    kind, *rest = name.split("__")
    return [_decoded(kind), *map(_decoded, rest[:1]), *rest[1:]]


def shown(text: str) -> str:
    """Text for an attribute of the config, where Label Studio would read `$5` as the name of a task's data."""
    return text.replace("$", "＄")


def _encoded(name: str) -> str:
    # A single underscore stays; whatever could be taken for a separator or for markup is its number.
    return re.sub(r"[^A-Za-z0-9_]|_(?=_)|^_|_$", lambda m: f"-{ord(m.group()):x}-", name)


def _decoded(name: str) -> str:
    return re.sub(r"-([0-9a-f]{1,6})-", lambda m: chr(min(int(m.group(1), 16), 0x10FFFF)), name)


def _text(view: ET.Element, title: str, name: str) -> None:
    ET.SubElement(view, "Header", value=title)
    ET.SubElement(view, "Text", name=name, value=f"${name}", valueType="text")


def _repeated(view: ET.Element, data: str, name: str, graded: Sequence[tuple[Kind, Field]] = ()) -> ET.Element:
    """A box for each item of a list in the task's data, however many that task has."""
    box = ET.SubElement(ET.SubElement(view, "Repeater", on=f"${data}", indexFlag=f"{{{{{name}}}}}"), "View")
    place = f"{{{{{name}}}}}"
    ET.SubElement(box, "Header", value=f"${data}[{place}].title")
    ET.SubElement(box, "Text", name=f"{name}_{place}", value=f"${data}[{place}].text", valueType="text")
    for kind, field in graded:
        _header(box, kind, field)
        grades = [str(grade) for grade in range(field.low, field.high + 1)]
        _choices(box, control(kind.name, field.name, RATING, place), f"{name}_{place}", grades, field.required)
    return box


def _graded(kinds: Sequence[Kind]) -> list[tuple[Kind, Field]]:
    return [(k, f) for k in kinds for f in k.fields if f.each]


def _choices(view: ET.Element, name: str, to: str, options: Sequence[str], required: bool, **more: str) -> ET.Element:
    attributes = {"choice": "single-radio", "required": str(required).lower()} | more
    if len(options) > LONG or more.get("layout") == "select":
        attributes |= {"layout": "select", "choice": "single" if attributes["choice"] != "multiple" else "multiple"}
    else:
        attributes["showInline"] = "true"  # it would undo the drop-down list
    box = ET.SubElement(view, "Choices", name=name, toName=to, **attributes)
    for option in options:
        _option(box, "Choice", option, option)
    return box


def _option(box: ET.Element, tag: str, option: str, title: str, **more: str) -> None:
    """An option as people see it. Its alias is what Label Studio stores: not given where it is the same."""
    same = shown(title) == option
    ET.SubElement(box, tag, value=shown(title), **({} if same else {"alias": option}), **more)


def _header(view: ET.Element, kind: Kind, field: Field) -> None:
    if len(kind.fields) > 1 or field.each:
        ET.SubElement(view, "Header", value=shown(field.name.replace("_", " ")), size="5")


def _when(view: ET.Element, kind: Kind, field: Field) -> tuple[ET.Element, dict[str, str]]:
    """Where the field goes, and the attributes of its control: hidden until the other field has its value."""
    if field.when is None:
        return view, {}
    other, value = field.when
    of = next((f for f in kind.fields if f.name == other), None)
    if of is None or "," in value or "$" in value:  # Label Studio splits at commas: then it is always shown
        return view, {}
    hidden = {
        "visibleWhen": "choice-selected",
        "whenTagName": control(kind.name, other, of.type),
        "whenChoiceValue": value,
    }
    return ET.SubElement(view, "View", **hidden), hidden


def _choice(view: ET.Element, kind: Kind, field: Field, catalogue: Sequence[Approved], *_: int) -> None:
    box, when = _when(view, kind, field)
    _header(box, kind, field)
    name = control(kind.name, field.name, CHOICE)
    if field.source == APPROVED:
        box = _choices(box, name, "question", [], field.required, layout="select", **when)
        for answer in catalogue:
            _option(box, "Choice", answer.id, f"{answer.id}: {answer.title}")
    else:
        _choices(box, name, "question", field.options, field.required, **when)


def _several(view: ET.Element, kind: Kind, field: Field, *_: object) -> None:
    box, when = _when(view, kind, field)
    _header(box, kind, field)
    name = control(kind.name, field.name, CHOICES)
    _choices(box, name, "question", [*field.options, NONE], field.required, choice="multiple", **when)


def _rating(view: ET.Element, kind: Kind, field: Field, *_: object) -> None:
    if field.each:  # beside its document, above
        return
    box, when = _when(view, kind, field)
    _header(box, kind, field)
    grades = [str(grade) for grade in range(field.low, field.high + 1)]
    _choices(box, control(kind.name, field.name, RATING), "question", grades, field.required, **when)


def _written(view: ET.Element, kind: Kind, field: Field, *_: object) -> None:
    box, when = _when(view, kind, field)
    _header(box, kind, field)
    ET.SubElement(
        box, "TextArea", name=control(kind.name, field.name, TEXT), toName="question", rows="6", maxSubmissions="1",
        editable="true", showSubmitButton="false", required=str(field.required).lower(),
        **({"value": f"${field.over}"} if field.over else {}), **when,
    )  # fmt: skip


def _spans(view: ET.Element, kind: Kind, field: Field, _: object, documents: int, *__: int) -> None:
    box, when = _when(view, kind, field)
    _header(box, kind, field)
    name, to = control(kind.name, field.name, SPANS), field.over or "response"
    labels = ET.SubElement(box, "Labels", name=name, toName=to, choice="single", **when)
    for number, option in enumerate(field.options):
        _option(labels, "Label", option, option, background=COLOURS[number % len(COLOURS)])
    if field.evidence:
        # Label Studio shows what belongs to a passage only while that is selected.
        ET.SubElement(box, "Header", value="Click a marked passage to name the sentence that refutes it.", size="6")
        region = {"perRegion": "true", "visibleWhen": "region-selected", "whenTagName": name}
        ET.SubElement(
            box, "TextArea", name=f"{name}__evidence", toName=to, rows="2", maxSubmissions="1", editable="true",
            placeholder="the sentence of the document, word for word", **region,
        )  # fmt: skip
        numbers = [str(n) for n in range(1, documents + 1)]
        if documents > 1:
            _choices(box, f"{name}__document", to, numbers, False, **region)
    _choices(box, f"{name}__whole", to, [ALL_MARKED, NOTHING], field.required)


def _ranking(view: ET.Element, kind: Kind, field: Field, _: object, __: int, ranked: int) -> None:
    # A rank for each answer, because Label Studio's own Ranker knows no ties.
    box = _repeated(view, "answers", "answer")
    name, to = control(kind.name, field.name, RANKING), "answer_{{answer}}"
    ranks = [str(rank) for rank in range(1, ranked + 1)]
    _choices(box, f"{name}__rank__{{{{answer}}}}", to, ranks, field.required)
    _choices(box, f"{name}__{UNACCEPTABLE}__{{{{answer}}}}", to, [UNACCEPTABLE], False, choice="multiple")


_FIELDS = {CHOICE: _choice, CHOICES: _several, RATING: _rating, TEXT: _written, SPANS: _spans, RANKING: _ranking}
