"""The Flutter example, read by a grammar of Dart (there is no SDK here), its calls held to the service's own document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_dart
from tree_sitter import Language, Node, Parser

from app import SURFACES, errors
from app.errors import Refusal
from tests.people import DOCUMENT, PATTERNS

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FLUTTER = EXAMPLES / "flutter"
SERVICE = FLUTTER / "lib" / "latchkey_service.dart"
SOURCES = sorted(FLUTTER.rglob("*.dart"))
SCHEMAS = DOCUMENT["components"]["schemas"]
NEXT = ("Tokens", "CodeAsked", "FactorAsked", "RegistrationAsked")  # what `_next` makes of an answer
UNUSED = "ContactReply"  # the same path answers the change of an address, which the example has not


@dataclass
class Call:
    """A call of the service as the source has it."""

    method: str
    path: str
    fields: set[str]
    unconditional: set[str]
    reader: str  # what is made of the answer

    @property
    def operation(self) -> dict[str, Any]:
        path = re.sub(r"\$\w+", "x", self.path)
        return next(found for pattern, found in PATTERNS.items() if pattern.fullmatch(path))[self.method.lower()]


def parsed(source: bytes) -> Node:
    return Parser(Language(tree_sitter_dart.language())).parse(source).root_node


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def faults(root: Node) -> list[tuple[int, str]]:
    """The lines that are no Dart."""
    return [(n.start_point[0] + 1, text(n)[:60]) for n in nodes(root) if n.is_error or n.is_missing]


def text(node: Node) -> str:
    return (node.text or b"").decode()


def of_type(node: Node, kind: str) -> list[Node]:
    return [found for found in nodes(node) if found.type == kind]


def calls() -> list[Call]:
    root = parsed(SERVICE.read_bytes())
    found = []
    for body in of_type(root, "function_body"):
        maps = {}
        for declared in of_type(body, "initialized_variable_definition"):
            literals = of_type(declared, "set_or_map_literal")
            if literals:
                maps[text(of_type(declared, "identifier")[0])] = literals[0]
        for given in of_type(body, "arguments"):
            words = [child for child in given.named_children if child.type == "argument"]
            if len(words) == 3 and re.fullmatch("'(GET|POST)'", text(words[0])):
                found.append(_call(given, words, maps))
    return found


def _call(given: Node, words: list[Node], maps: dict[str, Node]) -> Call:
    literal = maps.get(text(words[2])) or next(iter(of_type(words[2], "set_or_map_literal")), None)
    assert literal or text(words[2]) == "null", text(words[2])
    pairs = [pair for pair in literal.children if pair.type == "pair"] if literal else []
    chosen = (
        [pair for part in literal.children if part.type == "if_element" for pair in of_type(part, "pair")]
        if literal
        else []
    )
    before = SERVICE.read_bytes()[: given.start_byte + 1].decode()
    reader = re.search(r"(\w+)(?:\.fromJson)?\(await _send\($", before)
    return Call(
        method=text(words[0])[1:-1],
        path=text(words[1])[1:-1],
        fields={_key(pair) for pair in pairs + chosen},
        unconditional={_key(pair) for pair in pairs},
        reader=reader[1] if reader else "",
    )


def _key(pair: Node) -> str:
    return text(of_type(pair, "string_literal")[0])[1:-1]


def reads() -> dict[str, set[str]]:
    """For each class that is made of an answer, the fields that it looks for, with those of the classes within."""
    root = parsed((FLUTTER / "lib" / "answers.dart").read_bytes())
    found: dict[str, set[str]] = {}
    for made in of_type(root, "class_definition"):
        [name] = [child for child in made.children if child.type == "identifier"]
        source = text(made)
        fields = set(re.findall(r"\bjson\['(\w+)'\]", source))
        for within in re.findall(r"(\w+)\.fromJson\(json\)", source):
            fields |= found[within]
        if fields:
            found[text(name)] = fields
    return found


def bodies() -> dict[str, dict[str, bool]]:
    """For each operation of the document the fields of its body, and whether they are required."""
    return {
        operation["operationId"]: {name: field.is_required() for name, field in endpoint.body.model_fields.items()}
        if endpoint.body
        else {}
        for surface in SURFACES
        for endpoint in surface.endpoints
        for operation in [_documented(surface.prefix + endpoint.path, endpoint.method)]
    }


def _documented(rule: str, method: str) -> dict[str, Any]:
    return DOCUMENT["paths"][re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)][method.lower()]


def replies(operation: dict[str, Any]) -> dict[str, set[str]]:
    """The answers of success that an operation has, by the name of their schema, with their fields."""
    [success] = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    schema = success["content"]["application/json"]["schema"]
    names = [one["$ref"].split("/")[-1] for one in schema.get("anyOf", [schema])]
    return {name: set(SCHEMAS[name]["properties"]) for name in names if name != UNUSED}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_each_file_is_dart(path: Path) -> None:
    assert faults(parsed(path.read_bytes())) == []


def test_the_grammar_would_notice() -> None:
    whole = SERVICE.read_bytes()
    assert faults(parsed(whole.replace(b"Future<User> me() async {", b"Future<User> me() async {{")))
    assert faults(parsed(b"void f(int a, [int b, {int c}]) {}"))


def test_each_call_is_one_that_the_service_knows() -> None:
    made = calls()
    assert len(made) == SERVICE.read_text().count("_send('") >= 14
    for call in made:
        fields = bodies()[call.operation["operationId"]]
        assert call.fields <= set(fields), call
        assert {name for name, required in fields.items() if required} <= call.unconditional, call


def test_what_is_made_of_an_answer_is_in_it() -> None:
    known = reads()
    assert set(NEXT) <= set(known)
    for call in calls():
        for name, fields in replies(call.operation).items():
            readers = NEXT if call.reader == "_next" else (call.reader,)
            if call.reader:
                assert any(known[reader] <= fields for reader in readers), (call, name)
    assert known["User"] <= set(SCHEMAS["UserReply"]["properties"])
    assert known["Refusal"] <= set(SCHEMAS["Problem"]["properties"])


def test_only_the_answers_to_a_refresh_and_a_sign_out_are_read_elsewhere() -> None:
    """What the test before cannot see: a refresh's answer goes by a variable, and these two have nothing to read."""
    unread = {call.path for call in calls() if not call.reader}
    assert unread == {"/api/auth/refresh", "/api/auth/logout", "/api/auth/reset-password"}


def test_a_sign_out_that_was_not_taken_is_none() -> None:
    """The token goes only with a success, or with a 401: the session is over already."""
    method = SERVICE.read_text().partition("Future<void> signOut()")[2].partition("\n  }\n")[0]
    assert re.findall(r"if \(refusal\.status (.+?)\) rethrow;", method) == ["!= 401"]


def made(root: Node, name: str) -> list[dict[str, str]]:
    """The arguments of each `name(...)`, by their names."""
    found = []
    for given in of_type(root, "arguments"):
        before = (root.text or b"")[: given.start_byte].decode()
        if re.search(rf"\b{name}$", before):
            pairs = (text(one).split(":", 1) for one in given.named_children if ":" in text(one))
            found.append({key.strip(): value.strip() for key, value in pairs})
    return found


@pytest.mark.covers("asvs 6.2.6", "asvs 6.2.7", "nist N10")
def test_a_password_is_masked_and_comes_from_a_manager_or_the_clipboard() -> None:
    """What Flutter allows of itself unless it is told otherwise: to select, copy and paste."""
    fields = [field for path in SOURCES for field in made(parsed(path.read_bytes()), "Field")]
    passwords = [field for field in fields if "assword" in str(field)]
    assert len(passwords) == 4
    for field in passwords:
        assert re.fullmatch(r"true|_method == 'password'", field.get("secret", "")), field
        assert re.search(r"AutofillHints\.(newPassword|password)\b", field["autofill"]), field
    whose = ("AutofillHints.username", "AutofillHints.email")
    assert len([field for field in fields if field.get("autofill") in whose]) == 3, "on each page, for whom it is"
    own, code = made(parsed((FLUTTER / "lib" / "parts.dart").read_bytes()), "TextField")
    assert own["obscureText"] == "secret"
    assert own["autofillHints"] == "autofill == null ? null : [autofill!]"
    keep_out = {"enableInteractiveSelection", "contextMenuBuilder", "inputFormatters", "readOnly", "maxLength"}
    assert own.keys() & keep_out == set()
    assert code["autofillHints"] == "const [AutofillHints.oneTimeCode]"


KEEPERS = {"flutter/foundation", "flutter/material", "flutter/services", "http/http",
           "flutter_secure_storage/flutter_secure_storage"}  # fmt: skip


@pytest.mark.covers("asvs 14.3.3")
def test_what_lasts_is_in_the_keychain_and_the_access_token_nowhere() -> None:
    sources = "\n".join(path.read_text() for path in SOURCES)
    assert set(re.findall(r"import 'package:([\w/]+)\.dart'", sources)) == KEEPERS, "nothing else could keep anything"
    assert set(re.findall(r"import 'dart:(\w+)'", sources)) == {"async", "convert", "math"}
    writes = re.findall(r"(\w+)\.write\(key: (\w+), value: ([\w.]+)\)", sources)
    assert sources.count(".write(") == len(writes)
    assert set(writes) == {("_storage", "_refreshKey", "tokens.refresh"), ("_storage", "_deviceKey", "tokens.device")}
    assert "final FlutterSecureStorage _storage;" in sources


def codes() -> set[str]:
    return {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
    }


def test_the_examples_explain_codes_that_there_are() -> None:
    dart = re.search(
        r"String get words => switch \(code\) \{(.*?)_ =>", (FLUTTER / "lib/answers.dart").read_text(), re.DOTALL
    )
    assert dart
    in_dart = set(re.findall(r"^\s+'(\w+)'(?: \|\| '(\w+)')?", dart[1], re.MULTILINE))
    words = (EXAMPLES / "nextjs/lib/words.ts").read_text()
    typescript = re.search(r"const WORDS: Record<string, string> = \{(.*?)\};", words, re.DOTALL)
    assert typescript
    in_typescript = set(re.findall(r"^\s+(\w+):", typescript[1], re.MULTILINE))
    named = {code for pair in in_dart for code in pair if code}
    assert len(named) >= 9
    assert len(in_typescript) >= 9
    assert (named | in_typescript) - {"offline"} <= codes()
    assert "invalid_code" in named
    assert 'code === "invalid_code"' in words


def test_the_readme_says_that_it_was_not_compiled() -> None:
    readme = (FLUTTER / "README.md").read_text()
    assert "parsed, not compiled" in readme
    for name in re.findall(r"`(lib/[\w/.]+)`", readme):
        assert (FLUTTER / name).exists(), name
