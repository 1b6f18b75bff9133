"""Words that mark an answer, withhold one, deny or belong to a closed class: data, by language.

Everything here is a list of words for a regular expression or a set; what is done with them stands in `reading`,
`numbers`, `choices` and `texts`. Another language is another entry.
"""

from __future__ import annotations

import re

# What a statement of the answer is made of: a name for the answer, and what joins it to the answer itself.
_NAMES = {
    "en": r"(?:(?:final|correct|right|best|true)\s+)?(?:answer|option|choice|result|solution)"
    r"(?:\s+(?:here|to\s+\w+(?:\s+\w+)?))?",
    "de": r"(?:(?:richtige|endgültige)\s+)?(?:antwort|lösung|ergebnis)",
    "fr": r"(?:bonne\s+)?(?:réponse|solution|résultat)(?:\s+(?:finale|correcte))?",
    "es": r"(?:respuesta|opción|solución|resultado)(?:\s+(?:final|correcta))?",
    "pt": r"(?:resposta|opção|solução)(?:\s+(?:final|correta|certa))?",
    "it": r"(?:risposta|opzione|soluzione)(?:\s+(?:finale|corretta))?",
    "ru": r"(?:правильный\s+)?ответ",
}
_JOINS = (
    r"is|are|was|would\s+be|should\s+be|must\s+be|will\s+be|equals|ist|lautet|est|es|é|è",
    r"[:：=]|-+>|→|[-–—](?=\s)",
)
# Where the name of the answer and what follows are written without spaces, or no joint is needed.
_FIXED = {
    "en": r"\bi(?:'d|\s+would|\s+will|'ll)?\s+(?:choose|pick|select|go\s+with)\b",
    "zh": r"【答案】|答案(?:应该|應該)?(?:是|为|為|应为|應為|[:：])"
    r"|(?:故|所以|因此|应|應|本题|答案)?[选選][择擇]?(?=\s*[:：]?\s*[(（]?[A-ZＡ-Ｚ])",
    "ja": r"(?:答え|正解|解答|回答)(?:は|[:：])",
    "ko": r"(?:정답|해답|답)(?:은|는|[:：])",
}
_NAME = "|".join(_NAMES.values())
NAME = re.compile(_NAME, re.IGNORECASE)
"""A name for the answer, as a field of JSON may have it."""
_SPACE = r"[\s*_]*"
STATEMENT = re.compile(
    rf"(?<![\w-])(?:{_NAME}){_SPACE}(?:(?:{_JOINS[0]})\b{_SPACE}[:：]?|(?:{_JOINS[1]}))|{'|'.join(_FIXED.values())}",
    re.IGNORECASE,
)
"""Ends where the answer begins: `The final answer is`, `**Answer:**`, `答案是`."""
HEADING = re.compile(rf"^[#*\s>]*(?:the\s+)?(?:{_NAME})[*:：\s]*$", re.IGNORECASE | re.MULTILINE)
"""A line that is nothing but a name for the answer."""
HINTS = (
    *("answer", "option", "choice", "result", "solution", "choose", "pick", "select", "go with"),
    *("antwort", "lösung", "ergebnis", "réponse", "résultat", "respuesta", "opción", "solución"),
    *("resposta", "opção", "solução", "risposta", "opzione", "soluzione", "ответ"),
    *("答", "选", "選", "解", "답"),
)
"""One of these stands in every text that has a statement: a search for them is quicker than the expression's."""

_ABSTAINS = {
    "en": r"(?:can(?:not|'t| not)|could(?: not|n't)|impossible to|unable to|not possible to|hard to)\s+"
    r"(?:be\s+)?(?:\w+\s+)?(?:determine|tell|know|say|answer|calculate|compute|find|decide|infer|conclude|solve)"
    r"|not enough (?:information|data|context)|(?:insufficient|inadequate) (?:information|data|context)"
    r"|(?:do not|don't|does not|doesn't) (?:know|have enough|contain enough|provide enough|give enough)"
    r"|no (?:answer|solution|idea|way to)|un(?:known|determined|clear|decidable)|not (?:given|stated|specified|clear)",
    "de": r"nicht (?:bestimm|berechn|beantwort)\w*|nicht genug|keine ahnung|weiß (?:ich )?(?:es )?nicht|unbekannt",
    "fr": r"impossible (?:de|à)|ne peu(?:t|x) pas|pas assez|je ne sais pas|inconnue?",
    "es": r"no se puede|imposible|no hay suficiente|no (?:lo )?sé|desconocid\w*",
    "zh": r"无法|無法|不能确定|不能確定|不确定|不確定|不知道|未知|信息不足|条件不足",
    "ja": r"わかりません|分かりません|不明|できません|わからない|分からない",
    "ko": r"알 수 없|모르겠|없습니다",
}
ABSTAINS = re.compile("|".join(f"(?:{words})" for words in _ABSTAINS.values()), re.IGNORECASE)
"""The completion says that there is no answer to be had."""

_NEGATING = (
    "not no never neither nor without cannot isn't aren't wasn't weren't doesn't don't didn't won't can't couldn't"
    " shouldn't wouldn't hardly nicht kein keine keinen nie niemals ne pas jamais aucun aucune nunca tampoco ni sin"
    " não nunca nem não sem non mai не нет никогда"
)
NEGATORS = frozenset(_NEGATING.split())
"""Words that deny what follows in their clause."""
NEGATED_FOLLOWS = frozenset(["instead", "than", "besides", "except"])
"""`rather than the blue one`, `instead of blue`: the thing behind is named to be set aside."""
NEGATORS_BEFORE = re.compile(r"(?:不是|并非|並非|不|没有|沒有|没|沒|非|无|無|未|别|勿)[\s一个只條条张張]*$")
"""Chinese: what stands right behind is denied."""
NEGATORS_AFTER = re.compile(r"^[\s」』\"']*(?:では|じゃ|は)?(?:ない|ありません|なく)|^(?:이|가)?\s*(?:아니|아닙니다)")
"""Japanese and Korean: what stands right before is denied."""

TURNS = re.compile(
    r"(?<=[.!?…])\s+(?=(?:but|however|wait|actually|no|hmm|correction|on second thought|aber|doch|moment|mais|attends"
    r"|pero|espera)\b)|[,.…]+\s*(?:wait|actually|correction|on second thought)\b(?:[,:]?\s*no\b(?=[,:]?\s*\w))?[,:]?\s*"
    r"|(?<=[。！？])(?=但|不过|不過|不对|不對|等等|しかし|하지만)",
    re.IGNORECASE,
)
"""Where a text turns round: what stands behind counts, if it settles on anything."""
RETRACTS = re.compile(
    r"[,.!?…]+\s*(?:no,?\s*)?(?:wait|actually|correction|on second thought)\b(?:[,:]?\s*no\b(?=[,:]?\s*\w))?[,:]?\s*",
    re.IGNORECASE,
)
"""Where it takes back what it has said, and no more than that: `but` and `however` may only go on."""
CONCEDES = re.compile(
    r"\s*(?:although|though|even (?:though|if)|while|whereas|obwohl|bien que|aunque|虽然|雖然)\b", re.IGNORECASE
)
"""Opens a clause that grants something and states nothing: `no, although some say yes`."""
BUT = r"but|sondern|sino|mais"
"""Words between what is denied and what is said in its place."""
_ADVERBS = (
    "probably definitely certainly surely likely clearly obviously possibly presumably evidently absolutely undoubtedly"
    " maybe perhaps really entirely wahrscheinlich vermutlich sicher bestimmt vielleicht probablement certainement"
    " sûrement peut-être probablemente seguramente quizás quizá"
)
ADVERBS = frozenset(_ADVERBS.split())
"""Words that say how sure somebody is."""
_EXCLUDES = "exclude excluding eliminate eliminating reject rejecting discard discarding rule ruling"
EXCLUDES = frozenset(_EXCLUDES.split())
"""Verbs in front of what is set aside: `we can rule out A and B`."""

OR = r"or|oder|ou|oppure|или|或者?|还是|還是|または|か|또는|아니면"
AND = r"and|und|et|y|e|и|和|与|與|以及|及|跟|と|및|그리고|&"
SPLITS = re.compile(
    rf"[,;/、，；\n]|\b(?:or|and|oder|und|ou|et)\b|{'|'.join(['或者?', '还是', '還是', '和', '以及', '与', '與'])}"
)
"""Between the items of an enumeration."""

LABELS = re.compile(
    r"\b(?:steps?|figures?|figs?|equations?|eqs?|tables?|pages?|lines?|sections?|chapters?|parts?|examples?|rules?|notes?"
    r"|cases?|items?|images?|pictures?|panels?|problems?|questions?|exercises?|theorems?|lemmas?)\.?\s*[#(]?\s*$"
    r"|(?:步骤|步驟|图|圖|表|式|第)\s*$",
    re.IGNORECASE,
)
"""In front of a number that says which one is meant, and not how many: `see step 2`, `Fig. 3`, `图1`."""
_SHAPES = "circle square triangle star cross heart diamond"
_AMOUNTS = "more fewer less same equal"
_CLASSES = {
    "yes_no": {
        "yes": "yes yeah yep yup 是 是的 对 對 有 はい 네 예 ja oui sí si sim да",
        "no": "no nope nah 否 不 不是 没有 沒有 いいえ 아니오 아니요 nein non não нет",
    },
    "true_false": {
        "true": "true correct 正确 正確 対 真 wahr vrai verdadero",
        "false": "false incorrect 错误 錯誤 不正确 不正確 假 falsch faux falso",
    },
    "colour": {
        "red": "red 红色 紅色 红 紅 赤 赤色 빨간색 rot rouge rojo",
        "blue": "blue 蓝色 藍色 蓝 藍 青 青色 파란색 blau bleu azul",
        "green": "green 绿色 綠色 绿 綠 緑 緑色 초록색 grün vert verde",
        "yellow": "yellow 黄色 黃色 黄 黃 노란색 gelb jaune amarillo",
        "purple": "purple violet 紫色 紫 보라색 lila morado",
        "orange": "orange 橙色 橙 주황색 naranja",
        "black": "black 黑色 黑 黒 黒色 검은색 schwarz noir negro",
        "white": "white 白色 白 흰색 weiß blanc blanco",
        "pink": "pink 粉色 粉红色 粉紅色 분홍색 rosa rose",
        "brown": "brown 棕色 褐色 茶色 갈색 braun marron marrón",
        "grey": "grey gray 灰色 灰 회색 grau gris",
    },
    "shape": {w: w for w in _SHAPES.split()},
    "side": {"left": "left 左 左边 左邊 links gauche izquierda", "right": "right 右 右边 右邊 rechts droite derecha"},
    "height": {"above": "above 上 上面 上方", "below": "below 下 下面 下方"},
    "amount": {w: w for w in _AMOUNTS.split()},
}
CLASS_OF: dict[str, list[tuple[str, str]]] = {}
"""A word's classes, and which member of each it names: `{"gray": [("colour", "grey")]}`."""
for _name, _members in _CLASSES.items():
    for _member, _words in _members.items():
        for _word in _words.split():
            CLASS_OF.setdefault(_word, []).append((_name, _member))

RIVALS = [
    frozenset(words.split())
    for words in (
        "yes no",
        "true false",
        "red blue green yellow purple orange black white pink brown grey gray",
        _SHAPES,
        "left right",
        "above below",
        _AMOUNTS,
    )
]
"""The classes' English words, as claims about a scene are compared."""
_GRAMMAR_WORDS = (
    "a an the it its it's is are was were be been has have had do does did this that these those there here"
    " they their he she his her i my we our you your in on at of to and or with for from by as so answer"
    " final shown shows image image see"
)
GRAMMAR = frozenset(_GRAMMAR_WORDS.split())
"""Words that any sentence may have, and that name nothing."""
_FILLING = (
    "course sure definitely certainly clearly indeed surely obviously actually just simply probably think believe"
    " say would can picture photo which what called named known looks like appears seems very"
)
FILLERS = frozenset(_FILLING.split())
"""Words that comment on an answer and name nothing."""
CHINESE_FILLERS = frozenset("是的了在这那这個个有它他她们一为這為们只隻条條张張辆輛匹颗顆朵")

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
NUMBER_WORDS = {word: n for n, word in enumerate(_UNITS.split())}
NUMBER_WORDS |= {word: 10 * n for n, word in enumerate(_TENS.split(), start=2)}
"""Number words of English, up to a hundred."""
