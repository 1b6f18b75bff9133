"""Cases of capability benchmarks, the second half: small files in their layouts, rows and figures."""

from __future__ import annotations

import base64
import json

from tests.benchmarks.capability_case import Case
from tests.benchmarks.made import image, picture

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
