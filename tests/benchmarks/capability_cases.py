"""Cases of capability benchmarks, the first half: small files in their layouts, rows and figures."""

from __future__ import annotations

from tests.benchmarks.capability_case import Case
from tests.benchmarks.made import picture

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
]
