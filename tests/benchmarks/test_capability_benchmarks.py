"""Capability and instruction benchmarks: rows of small files in each one's own layout, and its figures by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas.prompts import NO_TRAINING, PromptRow
from schemas.values import plain_text
from stages.benchmarks.catalogue import benchmark
from stages.score.answers.match import match
from tests.benchmarks.made import figures, files, image, picture, rows, verdicts


@dataclass(frozen=True)
class Case:
    """One benchmark: files in its layout, the rows they must give, and figures of given verdicts."""

    name: str
    files: dict[str, Any]
    rows: list[dict[str, Any]]
    """What each row must have; `prompt` is its words, `images` how many."""
    given: Sequence[str | bool | float | None]
    """A verdict a row."""
    figures: dict[str, float | None]
    options: dict[str, Any] = field(default_factory=dict)
    verifier: str = "answer"

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return f"{self.name}{'-' + next(iter(self.files)) if self.options else ''}"


MATH_V = {"question": "Which one?\n<image1>", "solution": None, "level": 2, "subject": "arithmetic"}
MMMU_PRO = {"id": "test_Art_1", "options": "[['an urn', 'a jar', 'a cup']]", "answer": "C", "subject": "Art"}
MATHVISTA = {
    "question": "How much?",
    "choices": None,
    "unit": None,
    "precision": None,
    "question_type": "free_form",
    "answer_type": "integer",
    "metadata": {"task": "figure question answering", "skills": ["arithmetic reasoning"]},
}
SCIENCEQA = {
    "question": "Which is warm?",
    "hint": "It is hot.",
    "choices": ["ice", "fire"],
    "subject": "natural science",
    "grade": "grade4",
    "split": "test",
}
HALLUSION = {
    "category": "VS",
    "subcategory": "chart",
    "set_id": "0",
    "question": "Is it most?",
    "gt_answer": "0",
    "gt_answer_details": "It is not.",
    "filename": "./VS/chart/0_1.png",
}

OLYMPIAD = {
    "id": 1,
    "subfield": "Mechanics",
    "context": None,
    "question": "How far?",
    "final_answer": ["2.5"],
    "unit": None,
    "answer_type": "Numerical",
    "error": "0.1",
}
ONE_OPTION = "请选出唯一正确的选项\uff0c最后写出它的字母\u3002"
GAOKAO = {
    "question": "哪个 ( )\nA. 1\nB. 2\nC. 3\nD. 4",
    "picture": ["../Data/2010-2023_Math_MCQs/0_0.png", "../Data/2010-2023_Math_MCQs/0_1.png"],
}
EMMA = {
    "pid": "math_1",
    "question": "How many in <image_1>?",
    "context": "",
    "image_1": picture("red"),
    "image_2": picture("green"),
    "image_3": picture("blue"),
    "subject": "Math",
}

MM_IFEVAL = {"infer_type": "main", "image": base64.b64encode(image("red")).decode()}

CASES = [
    Case(
        "gsm8k",
        {
            "grade_school_math/data/test.jsonl": [
                {"question": "Ann has 2 bags of 3 pens. How many pens?", "answer": "2*3=<<2*3=6>>6 pens.\n#### 6"},
                {"question": "A car costs $1,200 and 250 more. How much?", "answer": "1200+250=1450\n#### 1,450"},
                {"question": "How many are left?", "answer": "None.\n#### 0"},
            ],
            "grade_school_math/data/train.jsonl": [{"question": "2 + 2 ?", "answer": "#### 4"}],
        },
        [
            {"prompt": "Ann has 2 bags of 3 pens. How many pens?", "answer": "6", "answer_kind": "number"},
            {"answer": "1450", "label": "math", "split": "test"},
            {"answer": "0"},
        ],
        [True, False, True],
        {"accuracy": 2 / 3},
    ),
    Case(
        "math500",
        {
            "prm800k/math_splits/test.jsonl": [
                {
                    "problem": "Halve $3$.",
                    "solution": "...",
                    "answer": "\\frac{3}{2}",
                    "subject": "Algebra",
                    "level": 2,
                },
                {"problem": "1 + 1", "solution": "...", "answer": "2", "subject": "Algebra", "level": 1},
            ]
        },
        [
            {"prompt": "Halve $3$.", "answer": "\\frac{3}{2}", "answer_kind": "math", "category": "Algebra"},
            {"answer": "2", "answer_kind": "math", "label": "math"},
        ],
        [True, False],
        {"accuracy": 1 / 2, "accuracy[category=Algebra]": 1 / 2, "accuracy[extra.level=2]": 1.0},
    ),
    Case(
        "math_v",
        {
            "data/test.jsonl": [
                {**MATH_V, "id": "1", "options": [], "answer": "60", "image": "images/1.jpg"},
                {**MATH_V, "id": "2", "options": [*"ABCDE"], "answer": "A", "image": "images/2.jpg"},
            ],
            "images/1.jpg": "red",
            "images/2.jpg": "green",
        },
        [
            {"answer": "60", "answer_kind": "math", "images": 1, "category": "arithmetic"},
            {"answer": "A", "answer_kind": "choice", "choices": [*"ABCDE"], "images": 1},
        ],
        [False, True],
        {"accuracy": 1 / 2, "accuracy[extra.level=2]": 1 / 2},
    ),
    Case(
        "mmmu",
        {
            "Art/validation-00000-of-00001.parquet": [
                {
                    "id": "validation_Art_1",
                    "question": "Which is older, <image 2> or <image 1>?",
                    "options": "['<image 1>', '<image 2>']",
                    "question_type": "multiple-choice",
                    "answer": "B",
                    "image_1": picture("red"),
                    "image_2": picture("green"),
                    "image_3": None,
                }
            ],
            "Art_Theory/validation-00000-of-00001.parquet": [
                {
                    "id": "validation_Art_Theory_2",
                    "question": "How wide is <image 1>?",
                    "options": "[]",
                    "question_type": "open",
                    "answer": "['12', '12.0 cm']",
                    "image_1": picture("blue"),
                    "image_2": None,
                    "image_3": None,
                }
            ],
        },
        [
            {
                "prompt": "Which is older, \n or \n?\n(A) image 1(B) image 2",
                "images": 2,
                "choices": ["<image 1>", "<image 2>"],
                "answer": "B",
                "answer_kind": "choice",
                "category": "Art",
            },
            {"images": 1, "answer": "12", "accepted": ["12.0 cm"], "answer_kind": "text", "category": "Art_Theory"},
        ],
        [True, False],
        {"accuracy": 1 / 2, "accuracy[category=Art]": 1.0},
    ),
    Case(
        "mmmu_pro",
        {
            "standard (10 options)/test-00000-of-00001.parquet": [
                {**MMMU_PRO, "question": "What is <image 1>?", "image_1": picture("red"), "image_2": None}
            ],
            "vision/test-00000-of-00001.parquet": [{**MMMU_PRO, "image": picture("green")}],
        },
        [
            {
                "prompt": "What is \n?\n(A) an urn\n(B) a jar\n(C) a cup",
                "task": "mmmu_pro:standard",
                "images": 1,
                "answer": "C",
                "answer_kind": "choice",
            },
            {
                "prompt": "The image shows a question with its options. Answer it with the letter of the right option.",
                "task": "mmmu_pro:vision",
                "images": 1,
                "choices": ["an urn", "a jar", "a cup"],
                "answer": "C",
                "answer_kind": "choice",
            },
        ],
        [True, False],
        {"standard": 1.0, "vision": 0.0},
    ),
    Case(
        "mathvista",
        {
            "data/testmini.json": {
                "1": {**MATHVISTA, "image": "images/1.jpg", "answer": "1.2", "answer_type": "float", "unit": "years"},
                "2": {**MATHVISTA, "image": "images/2.jpg", "answer": "[1, 2]", "answer_type": "list"},
                "3": {
                    **MATHVISTA,
                    "image": "images/3.jpg",
                    "choices": ["135\u00b0", "145\u00b0"],
                    "answer": "145\u00b0",
                    "question_type": "multi_choice",
                    "answer_type": "text",
                },
            },
            "images/1.jpg": "red",
            "images/2.jpg": "green",
            "images/3.jpg": "blue",
        },
        [
            {"prompt": "How much?\n(Unit: years)", "answer": "1.2", "answer_kind": "number", "images": 1},
            {"prompt": "How much?", "answer": "[1, 2]", "answer_kind": "text", "category": "figure question answering"},
            {"answer": "B", "answer_kind": "choice", "choices": ["135\u00b0", "145\u00b0"]},
        ],
        [True, False, True],
        {"accuracy": 2 / 3, "accuracy[extra.type=free_form]": 1 / 2},
    ),
    Case(
        "mathvista",
        {
            "data/testmini-00000-of-00001.parquet": [
                {**MATHVISTA, "pid": "1", "answer": "7", "image": "images/1.jpg", "decoded_image": picture("red")}
            ]
        },
        [{"answer": "7", "answer_kind": "number", "images": 1}],
        [None],
        {"accuracy": None},
    ),
    Case(
        "ai2d",
        {
            "data/test-00000-of-00001.parquet": [
                {"question": "Which label?", "options": ["2", "1", "0"], "answer": "1", "image": picture("red")},
                {"question": "What is C?", "options": ["a leaf", "a root"], "answer": "0", "image": picture("green")},
                {"question": "Which eats?", "options": ["C", "A", "B"], "answer": "1", "image": picture("blue")},
            ]
        },
        [
            # The number of the option 1, and not the option that reads 1.
            {"answer": "B", "answer_kind": "choice", "choices": ["2", "1", "0"], "images": 1},
            {"prompt": "What is C?\n(A) a leaf\n(B) a root", "answer": "A"},
            # B, which reads A; a reference is read as a text first.
            {"prompt": "Which eats?\n(A) C\n(B) A\n(C) B", "answer": "A"},
        ],
        [True, True, True],
        {"accuracy": 1.0},
    ),
    Case(
        "chartqa",
        {
            "ChartQA Dataset/test/test_human.json": [{"imgname": "1.png", "query": "How many?", "label": "14"}],
            "ChartQA Dataset/test/test_augmented.json": [
                {"imgname": "1.png", "query": "Which year?", "label": "2014"},
                {"imgname": "1.png", "query": "Which colour?", "label": "Blue"},
            ],
            "ChartQA Dataset/test/png/1.png": "red",
        },
        [
            {"answer": "14", "answer_kind": "number", "answer_rule": '{"relative": 0.05}', "task": "chartqa:human"},
            {"answer": "2014", "answer_kind": "number", "task": "chartqa:augmented", "images": 1},
            {"answer": "Blue", "answer_kind": "text"},
        ],
        [True, False, True],
        {"relaxed_accuracy": 2 / 3, "human": 1.0, "augmented": 1 / 2},
    ),
    Case(
        "chartqa",
        {
            "data/test-00000-of-00001.parquet": [
                {"type": "augmented_test", "question": "How high?", "answer": "3.5", "image": picture("red")},
                {"type": "human_test", "question": "Is it red?", "answer": "Yes", "image": picture("red")},
            ]
        },
        [
            {"prompt": "Is it red?", "answer": "Yes", "task": "chartqa:human", "images": 1},
            {"prompt": "How high?", "answer": "3.5", "task": "chartqa:augmented", "images": 1},
        ],
        [False, True],
        {"relaxed_accuracy": 1 / 2, "human": 0.0},
    ),
    Case(
        "chartqa",
        {
            "data/test-00000-of-00001.parquet": [
                {"image": picture("red"), "query": "How high?", "label": ["3.5"], "human_or_machine": 1},
                {"image": picture("red"), "query": "How low?", "label": ["1.5"], "human_or_machine": 0},
            ]
        },
        [
            {"prompt": "How low?", "answer": "1.5", "answer_kind": "number", "task": "chartqa:human", "images": 1},
            {"prompt": "How high?", "answer": "3.5", "task": "chartqa:augmented"},
        ],
        [True, False],
        {"relaxed_accuracy": 1 / 2, "human": 1.0},
    ),
    Case(
        "scienceqa",
        {
            "data/scienceqa/problems.json": {
                "4": {**SCIENCEQA, "answer": 1, "image": "image.png"},
                "5": {**SCIENCEQA, "answer": 0, "image": None, "hint": "", "choices": ["3", "0"]},
                "6": {**SCIENCEQA, "answer": 0, "image": None, "split": "train"},
            },
            "data/scienceqa/images/test/4/image.png": "red",
        },
        [
            {
                "prompt": "It is hot.\nWhich is warm?\n(A) ice\n(B) fire",
                "answer": "B",
                "images": 1,
                "category": "natural science",
            },
            {"prompt": "Which is warm?\n(A) 3\n(B) 0", "answer": "A", "images": 0},
        ],
        [False, True],
        {"accuracy": 1 / 2, "with_image": 0.0},
    ),
    Case(
        "scienceqa",
        {"data/test-00000-of-00001.parquet": [{**SCIENCEQA, "answer": 1, "image": picture("red")}]},
        [{"answer": "B", "images": 1}],
        [True],
        {"accuracy": 1.0, "with_image": 1.0},
    ),
    Case(
        "pope",
        {
            **{
                f"output/coco/coco_pope_{arm}.json": "".join(
                    json.dumps({"question_id": n, "image": "1.jpg", "text": f"Is there a {thing}?", "label": is_there})
                    + "\n"
                    for n, (thing, is_there) in enumerate([("cat", "yes"), (absent, "no")], start=1)
                )
                for arm, absent in (("random", "car"), ("popular", "chair"), ("adversarial", "dog"))
            },
            "val2014/1.jpg": "red",
        },
        [
            # Asked in all three arms, and one row.
            {"prompt": "Is there a cat?", "answer": "yes", "answer_kind": "text", "images": 1},
            {"prompt": "Is there a car?", "answer": "no", "task": "pope:random"},
            {"prompt": "Is there a chair?", "answer": "no", "task": "pope:popular"},
            {"prompt": "Is there a dog?", "answer": "no", "task": "pope:adversarial"},
        ],
        # yes; no, yes, no.
        [True, True, False, True],
        {
            "random_accuracy": 1.0,
            "random_f1": 1.0,
            "popular_accuracy": 1 / 2,
            "popular_precision": 1 / 2,
            "popular_recall": 1.0,
            "popular_f1": 2 / 3,
            "popular_yes_share": 1.0,
            "adversarial_yes_share": 1 / 2,
        },
    ),
    Case(
        "pope",
        {
            "data/test-00000-of-00001.parquet": [
                {"question_id": "1", "question": "A cat?", "answer": "yes", "category": arm, "image": picture("red")}
                for arm in ("adversarial", "random")
            ]
        },
        [{"task": "pope:random", "images": 1}],
        [False],
        {"random_recall": 0.0, "adversarial_accuracy": 0.0},
    ),
    Case(
        "hallusionbench",
        {
            "HallusionBench.json": [
                {**HALLUSION, "visual_input": "0", "figure_id": "0", "question_id": "0", "filename": None},
                {**HALLUSION, "visual_input": "1", "figure_id": "1", "question_id": "0"},
                {**HALLUSION, "visual_input": "1", "figure_id": "1", "question_id": "1", "gt_answer": "1"},
                {
                    **HALLUSION,
                    "category": "VD",
                    "visual_input": "2",
                    "figure_id": "2",
                    "question_id": "1",
                    "filename": "./VD/chart/0_2.png",
                },
            ],
            "hallusion_bench/VS/chart/0_1.png": "red",
            "hallusion_bench/VD/chart/0_2.png": "green",
        },
        [
            {"prompt": "Is it most?", "answer": "no", "images": 0, "category": "can be answered without"},
            {"answer": "no", "images": 1},
            {"answer": "yes", "images": 1},
            {"answer": "no", "images": 1, "category": "needs the figure"},
        ],
        # Figures: VS 1 (two questions), VD 2. Pairs: VS 0 (with and without), VS 1, VD 1.
        [True, True, False, True],
        {"aAcc": 3 / 4, "fAcc": 1 / 2, "qAcc": 2 / 3},
    ),
    Case(
        "olympiadbench",
        {
            "data/OE_MM_physics_en_COMP.json": [
                {**OLYMPIAD, "context": "See <img_12>.", "unit": "m", "error": "1e-1,2e-1"},
                {**OLYMPIAD, "question": "And <img_12>?", "final_answer": ["$\\frac{1}{2}$"], "error": None},
            ],
            "data/OE_TO_maths_zh_CEE.json": [{**OLYMPIAD, "error": ",0.2"}],
            "data/TP_TO_maths_en_COMP.json": [OLYMPIAD],
            "images/img_12.jpg": "red",
        },
        [
            {
                "prompt": "See \n.\nHow far?\n(Unit of the answer: m)",
                "images": 1,
                "answer": "2.5",
                "answer_kind": "math",
                "answer_rule": '{"absolute": 0.1}',
                "category": "Mechanics",
            },
            {"images": 1, "answer": "$\\frac{1}{2}$", "answer_kind": "math", "answer_rule": None},
            {"prompt": "How far?", "images": 0, "answer_rule": '{"absolute": 1e-08}'},
        ],
        [True, False, True],
        {"accuracy": 2 / 3, "accuracy[extra.set=OE_MM_physics_en_COMP]": 1 / 2},
    ),
    Case(
        "gaokao_mm",
        {
            "Data/2010-2023_Math_MCQs.json": {"keywords": "m", "example": [{**GAOKAO, "answer": ["B"], "index": 0}]},
            "Data/2010-2023_Physics_MCQs.json": {
                "keywords": "p",
                "example": [{**GAOKAO, "answer": ["ABC"], "index": 0}],
            },
            "Data/2010-2023_Chinese_Pratical_Lit.json": {
                "keywords": "c",
                "example": [{**GAOKAO, "answer": ["AE"], "index": 0}],
            },
            "Data/2010-2023_Math_MCQs/0_0.png": "red",
            "Data/2010-2023_Math_MCQs/0_1.png": "green",
        },
        [
            {
                "prompt": "哪个 ( )\nA. 1\nB. 2\nC. 3\nD. 4\n" + ONE_OPTION,
                "images": 2,
                "answer": "B",
                "answer_kind": "choice",
                "choices": [*"ABCD"],
                "category": "Math",
            },
            {"answer": "ABC", "answer_kind": "choices", "answer_rule": '{"partial": 0.5}', "category": "Physics"},
            {"answer": "AE", "answer_kind": "choices", "answer_rule": '{"partial": 0.5}', "category": "Chinese"},
        ],
        [True, 0.5, False],
        {"score": 1 / 2, "score[category=Physics]": 1 / 2},
    ),
    Case(
        "emma",
        {
            "Math/test-00000-of-00001.parquet": [
                {**EMMA, "options": ["<image_2>", "<image_3>"], "answer": "B", "type": "Multiple Choice"},
                {**EMMA, "options": None, "answer": "3/2", "type": "Open-ended", "context": "A cube."},
            ]
        },
        [
            {"images": 3, "answer": "B", "answer_kind": "choice", "choices": ["<image_2>", "<image_3>"]},
            {
                "prompt": "A cube.\nHow many in \n?",
                "images": 1,
                "answer": "3/2",
                "answer_kind": "math",
                "category": "Math",
            },
        ],
        [False, True],
        {"accuracy": 1 / 2, "accuracy[extra.type=open-ended]": 1.0},
    ),
    Case(
        "gpqa",
        {
            "gpqa_diamond.csv": [
                {
                    "Question": "Which is placeholder one?\n",
                    "Correct Answer": " the right one\n",
                    "Incorrect Answer 1": "wrong, by far",
                    "Incorrect Answer 2": "wrong 2",
                    "Incorrect Answer 3": "wrong 3",
                    "High-level domain": "Physics",
                    "Record ID": "rec1",
                }
            ]
        },
        [
            {
                "prompt": "Which is placeholder one?\n(A) wrong, by far\n(B) wrong 3\n(C) the right one\n(D) wrong 2",
                "answer": "C",
                "answer_kind": "choice",
                "category": "Physics",
            }
        ],
        [True],
        {"accuracy": 1.0},
    ),
    Case(
        "nlvr",
        {
            "nlvr/dev/dev.json": "".join(
                json.dumps({"sentence": "It is red.", "identifier": name, "directory": "0", "label": label}) + "\n"
                for name, label in (("7-0", "true"), ("7-1", "false"))
            ),
            **{f"nlvr/dev/images/0/dev-7-0-{n}.png": (n, 0, 0) for n in range(6)},
            # Two orders of boxes may look alike.
            **{f"nlvr/dev/images/0/dev-7-1-{n}.png": (max(n, 1), 9, 0) for n in range(6)},
        },
        [
            *({"answer": "true", "images": 1} for _ in range(6)),
            *({"answer": "false", "answer_kind": "text"} for _ in range(5)),
        ],
        # The first image of the second is wrong, and is that of two orders.
        [True] * 6 + [False] + [True] * 4,
        {"accuracy": 10 / 12, "consistency": 0.0},
    ),
    Case(
        "geometry3k",
        {
            "test/2401/data.json": {
                "annotat_text": "Find $x$.",
                "choices": ["12", "\\sqrt { 13 }"],
                "answer": "B",
                "problem_type_goal": ["Length"],
            },
            "test/2401/img_diagram.png": "red",
        },
        [
            {
                "prompt": "Find $x$.\n(A) 12\n(B) \\sqrt { 13 }",
                "images": 1,
                "answer": "B",
                "answer_kind": "choice",
                "category": "Length",
            }
        ],
        [False],
        {"accuracy": 0.0},
    ),
    Case(
        "mm_ifeval",
        {
            "MM-IFEval.tsv": [
                {**MM_IFEVAL, "id": "c1", "tag": "C-Level", "question": "Describe it in 9 words.", "constraints": "[]"},
                {**MM_IFEVAL, "id": "c1", "tag": "C-Level", "question": "Describe it.", "infer_type": "aux_cmp_gpt"},
                {**MM_IFEVAL, "id": "p1", "tag": "P-Level", "question": "Which two?", "answer": '["a cat", "a dog"]'},
                {**MM_IFEVAL, "id": "p2", "tag": "P-Level", "question": "How many?", "answer": '["3"]'},
            ]
        },
        [
            {"prompt": "Describe it in 9 words.", "label": "instruction", "images": 1, "answer": None},
            {"prompt": "Which two?", "label": "general", "images": 1, "answer": "a cat, a dog", "answer_kind": "text"},
            {"answer": "3", "answer_kind": "number"},
        ],
        [None, True, False],
        {"compose": None, "perceive": 1 / 2},
    ),
]


def _shown(row: PromptRow, name: str) -> Any:
    if name == "prompt":
        return plain_text(row.messages)
    if name == "images":
        return len(row.images)
    return getattr(row, name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rows_and_figures(case: Case, tmp_path: Path) -> None:
    found = rows(case.name, files(tmp_path / "files", case.files), **case.options)
    shown = [{name: _shown(row, name) for name in wanted} for row, wanted in zip(found, case.rows, strict=True)]
    assert shown == case.rows
    assert all(row.split == "test" and row.source.partition(":")[0] == case.name for row in found)
    assert benchmark(case.name).may_train or all(NO_TRAINING in row.flags for row in found)

    got = figures(tmp_path / "runs", case.name, verdicts(found, case.verifier, case.given))
    assert {name: got[name] for name in case.figures} == {name: pytest.approx(v) for name, v in case.figures.items()}


def test_a_single_file_is_read_as_the_arm_whose_it_is(tmp_path: Path) -> None:
    for name, arms in (("mmmu_pro", ["standard", "vision"]), ("pope", ["random", "popular", "adversarial"])):
        case = next(case for case in CASES if case.name == name)
        root = files(tmp_path / name, case.files)
        for arm, file in zip(arms, case.files, strict=False):
            found = rows(name, root / file)
            assert {row.task for row in found} == {f"{name}:{arm}"}, file


def test_a_reply_by_letter_is_right_where_options_are_letters(tmp_path: Path) -> None:
    record = {"question": "Which eats?", "options": ["C", "A", "B"], "answer": "1", "image": picture("blue")}
    (row,) = rows("ai2d", files(tmp_path, {"data/test-0.parquet": [record]}))
    said = {reply: match(row, reply).right for reply in ("B", "(B)", "A", "C")}
    assert said == {"B": True, "(B)": True, "A": False, "C": False}
