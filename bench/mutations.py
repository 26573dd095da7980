"""Small changes of a module's meaning, one at a time: the bugs that nobody thought of.

Beside the usual ones (a bound moved, `and` for `or`, a condition turned round, another number) those that matter here,
where the write decides: one condition less in a guarded statement, a guard less at the door, a statement not done. The
text around a change stays as it was, so a change can be read as a diff.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
LISTS = {"where", "and_", "or_"}  # calls whose arguments are conditions
CONDITIONS = {"is_", "is_not", "in_", "is_not_distinct_from", "unlocked", "locked"}
QUIET = ("log.", "work.count", "work.tell")  # what is said to the operator alone


@dataclass(frozen=True, slots=True)
class Mutant:
    file: str
    what: str
    lines: range  # of what is changed
    start: int  # bytes
    end: int
    new: str

    def applied(self, text: str) -> str:
        data = text.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()

    def was(self, text: str) -> str:
        return " ".join(text.encode()[self.start : self.end].decode().split())


def of(file: str, text: str) -> list[Mutant]:
    """Every mutant of a module, in the order of the text."""
    tree, data = ast.parse(text), text.encode()
    skipped = {id(inner) for node in ast.walk(tree) for outer in _unspoken(node) for inner in ast.walk(outer)}
    begins = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]
    found = []
    for node in ast.walk(tree):
        for at, what, new in _changes(node) if id(node) not in skipped else ():
            start, end = begins[at.lineno - 1] + at.col_offset, begins[at.end_lineno - 1] + at.end_col_offset
            if not data.startswith(b"elif", start):  # half of a statement
                found.append(Mutant(file, what, range(at.lineno, at.end_lineno + 1), start, end, new))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def _unspoken(node: ast.AST) -> Iterator[ast.AST]:
    """What is no act of the program: annotations, decorators, parts of a text, subscripts of types."""
    if isinstance(node, ast.FunctionDef):
        yield from (each for each in (*node.decorator_list, node.returns) if each)
    if isinstance(node, ast.ClassDef):
        yield from node.decorator_list
    if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
        yield node.annotation
    if isinstance(node, ast.JoinedStr):
        yield from node.values


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """What is changed, how that is called, and what stands there instead."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield node, "compared otherwise", _text(ast.Compare(node.left, [OTHER[type(node.ops[0])]()], node.comparators))
    if isinstance(node, ast.BoolOp):
        swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, "and for or, or for and", f"({_text(ast.BoolOp(swapped, node.values))})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, "turned round", f"({_text(node.operand)})"
    if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(node.test, (ast.Compare, ast.UnaryOp)):
        yield node.test, "turned round", f"(not ({_text(node.test)}))"
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        swapped_sign = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield node, "plus for minus, minus for plus", f"({_text(ast.BinOp(node.left, swapped_sign, node.right))})"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, "true for false, false for true", str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield node, "another number", str(node.value + 1)
    yield from _fewer_conditions(node)
    yield from _nothing_done(node)


def _fewer_conditions(node: ast.AST) -> Iterator[tuple[ast.expr, str, str]]:
    if isinstance(node, (ast.Tuple, ast.List)):
        for at, each in enumerate(node.elts):
            if _is_condition(each):
                rest = [*node.elts[:at], *node.elts[at + 1 :]]
                yield node, "a condition less", _text(type(node)(rest, node.ctx))
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in LISTS:
        for at in range(len(node.args)):
            yield node, "a condition less", _text(ast.Call(node.func, [*node.args[:at], *node.args[at + 1 :]], []))


def _is_condition(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", "") in CONDITIONS
    return isinstance(node, (ast.Compare, ast.Starred))


def _nothing_done(node: ast.AST) -> Iterator[tuple[ast.stmt, str, str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _text(node.value).startswith(QUIET):
        yield node, "not done", "pass"
    if isinstance(node, ast.Assign) and _is_kept(node.targets[0]):
        yield node, "not done", "pass"
    if isinstance(node, ast.AugAssign):
        yield node, "not done", "pass"
    if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], (ast.Raise, ast.Return)):
        yield node, "a guard less", "pass"


def _is_kept(target: ast.expr) -> bool:
    """True for what is set of a row or another object: a name that is missing would only stumble."""
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    return isinstance(first, (ast.Attribute, ast.Subscript))


def _text(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node))
