#!/usr/bin/env python3
"""Writes the committed corpus, fuzz/corpus. Names begin with what must become of an input; tests/it/corpus.rs holds them to it.

operation: ran-, invalid- (no GraphQL, not of the schema, wrong variables), refused- (too complex or too dear). Text, then 0xFF and
the variables as JSON, operationName among them. event: taken-, refused- (all lines), mixed- (both).
"""
import json
import pathlib
import shutil

ROOT = pathlib.Path(__file__).parent / "corpus"


def write(target, name, data):
    data = data.encode() if isinstance(data, str) else data
    path = ROOT / target / name
    assert not path.exists(), path
    path.write_bytes(data)


# --- Operations -------------------------------------------------------------------------------------------------------------
def op(name, text, variables=None):
    data = text.encode() if isinstance(text, str) else text
    if variables is not None:
        data += b"\xff" + (variables if isinstance(variables, bytes) else json.dumps(variables, separators=(",", ":")).encode())
    write("operation", name + ".graphql", data)


INTROSPECTION = """query IntrospectionQuery { __schema { queryType { name } mutationType { name } subscriptionType { name }
  types { ...FullType } directives { name description locations args { ...InputValue } } } }
fragment FullType on __Type { kind name description
  fields(includeDeprecated: true) { name description args { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason }
  inputFields { ...InputValue } interfaces { ...TypeRef }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } }
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue }
fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }"""


def chain(length, spreads, leaf, on="Viewer", head="{viewer{...F0}}"):
    links = "".join(f"fragment F{n} on {on}{{{f'...F{n + 1} ' * spreads}}}" for n in range(length))
    return f"{head}{links}fragment F{length} on {on}{{{leaf}}}"


def operations_that_run():
    op("ran-typename", "{__typename}")
    op("ran-viewer", "query { viewer { partnerId name timezone keyId keyMode keyExpiresAt plan products scope } }")
    op("ran-usage", '{ usage(period: "2026-11") { period from to asOf lines { meter plan units includedUnits unitPrice amount } totals { currency amount } } }')
    op("ran-product", '{ product(sku: "SKU-10211") { sku title brand category supplier } }')
    op("ran-product-every-field", """query Everything($sku: ID!, $location: String!, $market: String!) { product(sku: $sku) { sku title brand category supplier
  inventory(location: $location) { location onHand reserved available updatedAt freshness { asOf lagMs } }
  price(market: $market) { market currency amount listAmount updatedAt freshness { asOf lagMs } } } }""",
       {"sku": "P1", "location": "S367", "market": "S367"})
    op("ran-products-list-variable", "query($skus: [ID!]!) { products(skus: $skus) { sku price(market: \"DE\") { amount } } }", {"skus": [f"S{n}" for n in range(30)]})
    op("ran-products-list-literal", '{ products(skus: ["A", 7, "\\u00e9"]) { sku } }')
    op("ran-products-one-value-as-list", '{ products(skus: "A") { sku } }')
    op("ran-products-variable-in-list", "query($a: ID!, $b: ID!) { products(skus: [$a, $b]) { sku } }", {"a": "1", "b": 2})
    op("ran-catalog-edges", 'query($first: Int, $after: String) { catalog(first: $first, after: $after) { edges { cursor node { sku title } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }', {"first": 10, "after": None})
    op("ran-catalog-nodes", '{ catalog(first: 100) { nodes { sku inventory(location: "L") { available } } pageInfo { endCursor } } }')
    op("ran-catalog-defaults", "query($first: Int = 5) { catalog(first: $first) { nodes { sku } } }")
    op("ran-catalog-negative-first", "{ catalog(first: -1) { nodes { sku } } }")
    op("ran-aliases", '{ a: product(sku: "1") { sku } b: product(sku: "2") { s: sku t: title } a: product(sku: "1") { brand } }')
    op("ran-fragments", 'query { product(sku: "1") { ...Details ... on Product { category } ... { supplier } } } fragment Details on Product { title brand ...Stock } fragment Stock on Product { inventory(location: "L") { onHand } }')
    op("ran-directives", 'query($yes: Boolean!, $no: Boolean = false) { viewer @include(if: $yes) { name @skip(if: $no) ...N @include(if: $yes) ... @skip(if: true) { plan } } } fragment N on Viewer { keyId }', {"yes": True})
    op("ran-two-operations", "query A { viewer { name } } query B { viewer { plan } }", {"operationName": "B"})
    op("ran-price-history", 'query($from: DateTime) { product(sku: "1") { priceHistory(market: "M", from: $from, to: "2026-12-01T00:00:00Z", first: 10) { validFrom currency amount listAmount } } }', {"from": "2026-11-01T00:00:00+01:00"})
    op("ran-estimate", 'query($q: String!, $v: JSON) { estimateCost(query: $q, variables: $v) { requestedQueryCost byProduct { product units } admitted refusal } }', {"q": "query($s:[ID!]!){products(skus:$s){price(market:\"M\"){amount}}}", "v": {"s": ["1", "2"]}})
    op("ran-estimate-literal-variables", '{ estimateCost(query: "{a}", variables: {a: [1, {b: null}], c: TRUE}) { admitted } }')
    op("ran-a-hundred-skus", "query($s:[ID!]!){products(skus:$s){inventory(location:\"L\"){available} price(market:\"M\"){amount}}}", {"s": list(range(100))})
    op("ran-everything-skipped", "query($no: Boolean!) { viewer { name @include(if: $no) } catalog @skip(if: $no) { nodes { ... @include(if: $no) { sku } } } }", {"no": False})
    op("ran-conditions-on-fragments", "query($a: Boolean = true, $b: Boolean!) { viewer { ...F @skip(if: $a) ...F @include(if: $b) ... on Viewer @skip(if: $b) { name } } } fragment F on Viewer { name @skip(if: $a) @include(if: $b) plan }", {"b": True})
    op("ran-nothing-asked-of-a-list", "{ products(skus: []) { sku } }")
    op("ran-introspection", INTROSPECTION)
    op("ran-introspection-type", '{ __type(name: "Product") { name fields { name args { name type { name kind ofType { name } } } } } }')
    op("ran-schema-and-data", '{ __schema { queryType { name } } viewer { name } }')
    op("ran-byte-order-mark", "\ufeff{ viewer { name } }")
    op("ran-comments", "# before {[(\n{ # \"not a string\n viewer # ...\n{ name } }\n# after")
    op("ran-commas-everywhere", ",,{,viewer,{,name,,plan,},},,")
    op("ran-block-string", '{ product(sku: """\n  a " quoted "" \\""" block\n""") { sku } }')
    op("ran-escapes", '{ product(sku: "\\u00e9\\n\\t\\"\\\\") { sku } }')
    op("ran-keywords-as-names", "{ query: viewer { fragment: name on: plan mutation: keyId true: scope } }")
    op("ran-carriage-returns", "{\r\n viewer {\r name }\n}")
    op("ran-many-products", "{" + "".join(f'p{n}:product(sku:"{n}"){{sku title price(market:"DE"){{amount}}}}' for n in range(25)) + "}")
    op("ran-fragment-spread-often", "{" + "".join(f'p{n}:product(sku:"{n}"){{...F}}' for n in range(40)) + '} fragment F on Product{sku title brand category supplier inventory(location:"L"){onHand reserved available updatedAt} price(market:"M"){amount}}')
    op("ran-nested-as-deep-as-allowed", "{viewer{" + "...{" * 30 + "name" + "}" * 32)
    op("ran-null-variable", "query($p: String) { usage(period: $p) { period } }", {"p": None})
    op("ran-estimate-asked-in-text", '{ product(sku: "{ products(skus: [\\"a\\"]) { sku } }") { sku } }')


def operations_that_are_wrong():
    op("invalid-empty", "")
    op("invalid-no-graphql", "SELECT * FROM product")
    op("invalid-several-operations-without-a-name", "query A { viewer { name } } query B { viewer { plan } }")
    op("invalid-unknown-operation", "query A { viewer { name } }", {"operationName": "B"})
    op("invalid-null-for-required", "query($s: [ID!]!) { products(skus: $s) { sku } }", {"s": ["a", None]})
    op("invalid-fragments-on-typename", "{ __typename { ...F } } fragment F on String { x }")
    op("invalid-unclosed", "{ viewer { name ")
    op("invalid-closed-twice", "{ viewer { name } } }")
    op("invalid-unknown-field", "{ viewer { secret } }")
    op("invalid-unknown-type", "{ viewer { ... on Nobody { name } } }")
    op("invalid-unknown-argument", '{ product(sku: "1", id: 5) { sku } }')
    op("invalid-unknown-directive", "{ viewer { name @defer } }")
    op("invalid-unknown-fragment", "{ viewer { ...Nothing } }")
    op("invalid-unused-fragment", "{ viewer { name } } fragment F on Viewer { name }")
    op("invalid-unused-variable", "query($a: Int) { viewer { name } }", {"a": 1})
    op("invalid-undefined-variable", "{ product(sku: $sku) { sku } }", {"sku": "1"})
    op("invalid-missing-argument", "{ product { sku } }")
    op("invalid-missing-variable", "query($sku: ID!) { product(sku: $sku) { sku } }", {})
    op("invalid-variable-of-another-type", "query($first: Int) { catalog(first: $first) { nodes { sku } } }", {"first": "ten"})
    op("invalid-variable-out-of-range", "query($first: Int) { catalog(first: $first) { nodes { sku } } }", {"first": 99999999999})
    # The engine's own rule (VariableInAllowedPosition) is never asked in 7.2.1: the field fails instead.
    op("invalid-variable-in-wrong-place", "query($first: String) { catalog(first: $first) { nodes { sku } } }", {"first": "1"})
    op("invalid-literal-out-of-range", "{ catalog(first: 99999999999999999999999) { nodes { sku } } }")
    op("invalid-float-for-int", "{ catalog(first: 1.5e300) { nodes { sku } } }")
    op("invalid-no-selection", '{ product(sku: "1") }')
    op("invalid-selection-on-scalar", "{ viewer { name { x } } }")
    op("invalid-mutation", "mutation { x }")
    op("invalid-subscription", "subscription { x }")
    op("invalid-schema-definition", "type Query { a: Int }")
    op("invalid-fragment-on-scalar", "{ viewer { ...F } } fragment F on String { x }")
    op("invalid-fragment-of-another-type", "{ viewer { ...F } } fragment F on Product { sku }")
    op("invalid-two-fragments-of-one-name", "{ viewer { ...F } } fragment F on Viewer { name } fragment F on Viewer { plan }")
    op("invalid-two-operations-of-one-name", "query A { viewer { name } } query A { viewer { name } }")
    op("invalid-two-anonymous-operations", "{ viewer { name } } { viewer { plan } }")
    op("invalid-fields-that-do-not-merge", '{ a: product(sku: "1") { sku } a: product(sku: "2") { sku } }')
    op("invalid-fields-that-do-not-merge-often", "{ viewer { " + "".join(f"a:{f} " for f in ["name", "plan", "keyId"] * 30) + "} }")
    op("invalid-overlapping-fields-with-many-arguments", "{viewer{name(" + "".join(f"a{n}:1 " for n in range(20)) + ")" + " name" * 900 + "}}")
    op("invalid-repeated-argument", '{ product(sku: "1", sku: "2") { sku } }')
    op("invalid-repeated-directive", "{ viewer { name @skip(if: false) @skip(if: false) } }")
    op("invalid-many-unknown-fields", "{" + "".join(f"produkt{n} " for n in range(49)) + "}")
    op("invalid-long-unknown-names", "{ viewer { " + "x" * 7000 + " " + "y" * 7000 + " } }")
    op("invalid-object-for-id", '{ product(sku: {a: [{b: $c}, null, TRUE, 1e9]}) { sku } }')
    op("invalid-many-undefined-variables", "{viewer{" + "".join(f"name(a:$v{n}) " for n in range(300)) + "}}")
    op("invalid-many-variables", "query(" + "".join(f"$v{n}:Int " for n in range(600)) + "){viewer{name}}")
    op("invalid-control-characters", "{ viewer { na\x00me \x1b[31m } }")
    op("invalid-not-utf-8", b"{ viewer { name } } \xc3\x28 \xe2\x82")
    op("invalid-number-that-runs-on", "{ catalog(first: 00123abc) { nodes { sku } } }")
    op("invalid-lone-surrogate", '{ product(sku: "\\ud800") { sku } }')
    op("invalid-nested-as-deep-as-allowed", "{product(sku:" + "[" * 30 + "1" + "]" * 30 + "){sku}}")
    op("invalid-chain-below-the-bound", chain(11, 2, "x"))


def introspected(depth):
    return "{__type(name:\"__Type\"){" + "fields{type{ofType{ofType{ofType{" * depth + "name" + "}}}}}" * depth + "}}"


def introspected_through_fragments(length):
    inner = "...F{0} ofType{{...F{0} ofType{{...F{0} ofType{{...F{0}}}}}}}"
    links = "".join(f"fragment F{n} on __Type{{fields{{type{{{inner.format(n + 1)}}}}}}}" for n in range(length))
    return '{__type(name:"__Type"){...F0}}' + links + f"fragment F{length} on __Type{{name}}"


def operations_that_hurt():
    op("invalid-list-mentioned-often", "query($s:[ID!]!){products(skus:[" + "$s " * 1300 + "]){sku}}", {"s": [0] * 5000})
    op("refused-object-mentioned-often", 'query($v:JSON){estimateCost(query:"{a}",variables:{a:[' + "$v " * 1300 + "]}){admitted}}", {"v": [{"a": 0}] * 1000})
    op("refused-default-mentioned-often", "query($v:JSON=[" + "0 " * 1900 + ']){estimateCost(query:"{a}",variables:{a:[' + "$v " * 1000 + "]}){admitted}}")
    op("refused-introspection-in-circles", introspected_through_fragments(5))
    op("ran-introspection-deep", introspected(6))
    op("refused-too-many-units", "query($s:[ID!]!){" + "".join(f'a{n}:products(skus:$s){{inventory(location:"L"){{available}}}}' for n in range(50)) + "}", {"s": list(range(100))})
    op("refused-page-too-large", '{catalog(first:2147483647){edges{node{priceHistory(market:"M",first:2147483647){amount}}}}}')
    op("refused-nested-lists", "{product(sku:" + "[" * 1700 + "1" + "]" * 1700 + "){sku}}")
    op("refused-nested-objects", "{product(sku:" + "{a:" * 1300 + "1" + "}" * 1300 + "){sku}}")
    op("refused-nested-selections", "{a" * 2000 + "x" + "}" * 2000)
    op("refused-nested-variable-types", "query($a:" + "[" * 1300 + "A" + "]" * 1300 + "){a}")
    op("refused-unclosed-brackets", "[" * 6000)
    op("refused-mismatched-brackets", "{([{)]}" * 800)
    op("refused-nested-just-too-deep", "{viewer{" + "...{" * 31 + "name" + "}" * 33)
    op("refused-doubling-fragments", chain(24, 2, "name"))
    op("refused-more-doubling-fragments", chain(45, 2, "name"))
    op("refused-doubling-unknown-fragments", chain(45, 2, "...Unknown"))
    op("refused-doubling-joined-keywords", chain(40, 2, "name").replace("fragment ", "fragment"))
    op("refused-doubling-unused-fragments", chain(40, 2, "name", head="{viewer{name}}"))
    op("refused-fragment-spread-by-the-hundred", "{viewer{" + "...F " * 200 + "}} fragment F on Viewer{" + "name " * 200 + "}")
    op("refused-fragment-that-spreads-itself", "{ viewer { ...A } } fragment A on Viewer { name ...A }")
    op("refused-circle-of-fragments", "{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...C } fragment C on Viewer { ... { ...A } }")
    op("refused-chain-of-fragments-past-the-recursion-limit", chain(40, 1, "name"))
    op("refused-circle-that-nobody-spreads", "{ viewer { name } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }")
    op("refused-many-aliases", "{" + "".join(f"a{n}:__typename " for n in range(600)) + "}")
    op("refused-many-root-fields", "{" + "__typename " * 51 + "}")
    op("refused-many-directives", "{__typename " + "@skip(if:false)" * 300 + "}")
    op("refused-many-operations", "".join(f"query Q{n}{{__typename}}" for n in range(60)))
    op("refused-many-tokens", "{viewer{" + "a " * 4500 + "}}")
    op("refused-field-beside-many-arguments", "{viewer{name(" + "".join(f"a{n}:1 " for n in range(600)) + ")" + "name " * 1300 + "}}")
    op("refused-merged-again-in-each-inline-fragment", "{viewer{" + "...{" * 25 + "name(" + "b:1 " * 100 + ")" + "name " * 900 + "}" * 27)
    op("refused-unterminated-string", '{ product(sku: "abc\n) { sku } }')
    op("refused-unterminated-block-string", '{ product(sku: """ abc "" ) { sku } }' + "[" * 2000)
    op("refused-unterminated-escape", '{ product(sku: "abc\\')
    op("refused-too-long", " " * 16_400 + "{__typename}")
    op("refused-long-comment", "#" + "x" * 16_400 + "\n{__typename}")


# --- Events -----------------------------------------------------------------------------------------------------------------
def cloud(kind, subject, data, **over):
    event = {"specversion": "1.0", "id": "e1", "source": "/pos/367", "type": kind, "subject": subject, "time": "2026-01-05T08:00:00.000Z",
             "datacontenttype": "application/json", "data": data} | over
    return json.dumps({key: value for key, value in event.items() if value is not ...}, ensure_ascii=False)


PRODUCT = {"sku": "P1", "title": "Tee für zwei", "brand": "Alba", "category": "Tea", "supplier": "S1"}
COUNT = {"sku": "P1", "location": "S367", "onHand": 12, "reserved": 2}
PRICE = {"sku": "P1", "market": "DE", "currency": "EUR", "amount": "12.50"}
EVENTS = {
    "product": cloud("catalog.product.upserted", "P1", PRODUCT),
    "product-with-version": cloud("catalog.product.upserted", "P1", PRODUCT | {"version": 7}),
    "count": cloud("inventory.counted", "P1", COUNT),
    "count-with-version": cloud("inventory.counted", "P1", COUNT | {"version": -1}),
    "count-largest": cloud("inventory.counted", "P1", COUNT | {"onHand": 10**12, "version": 2**63 - 1}),
    "adjustment": cloud("inventory.adjusted", "P1", {"sku": "P1", "location": "S367", "delta": -3, "reason": "sale"}),
    "price": cloud("price.set", "P1", PRICE),
    "price-with-everything": cloud("price.set", "P1", PRICE | {"currency": "KWD", "listAmount": "15.000", "version": 3, "validFrom": "2027-01-01T00:00:00+01:00"}),
    "price-many-decimals": cloud("price.set", "P1", PRICE | {"amount": "0.000000000001", "listAmount": "79228162514264337593543950335"}),
    "journey": cloud("journey.recorded", "v-1", {"visitor": "v-1", "session": "s", "action": "view", "sku": "P1", "brand": "Alba", "value": "3.20", "dimensions": {"channel": "app", "": "\n"}}),
    "journey-least": cloud("journey.recorded", "v-1", {"visitor": "v-1", "action": "view"}),
    "erasure": cloud("visitor.erased", "v-1", {"visitor": "v-1"}),
    "compensation": cloud("event.compensated", "P1", {"compensates": "e0", "reason": "typo"}),
    "unknown-fields": cloud("visitor.erased", "v-1", {"visitor": "v-1", "more": [[[{}]]]}, extension=None, other={"a": [1, 2]}),
    "time-with-offset": cloud("visitor.erased", "v-1", {"visitor": "v-1"}, time="2026-01-05T08:00:00.123456789-07:00"),
    "time-long-ago": cloud("visitor.erased", "v-1", {"visitor": "v-1"}, time="-009998-01-01T00:00:00Z"),
    "time-leap-second": cloud("visitor.erased", "v-1", {"visitor": "v-1"}, time="2016-12-31T23:59:60Z"),
    "names-as-long-as-allowed": cloud("catalog.product.upserted", "P" * 256, PRODUCT | {"sku": "P" * 256, "title": "t" * 1024, "brand": "é" * 128}),
    "escaped-names": cloud("visitor.erased", "v-1", {"visitor": "v-1"}).replace('"visitor"', '"\\u0076isitor"'),
}
EVIL = {
    "not-json": "{",
    "a-list": "[" + EVENTS["price"] + "]",
    "a-number": "7",
    "a-string": '"event"',
    "null": "null",
    "no-fields": "{}",
    "nested-lists": "[" * 3000,
    "nested-data": cloud("price.set", "P1", 5).replace("5}", "[" * 1500 + "]" * 1500 + "}"),
    "nested-unknown-field": cloud("visitor.erased", "v", {"visitor": "v", "x": 0}).replace('"x": 0', '"x":' + '{"x":' * 700 + "0" + "}" * 700),
    "no-data": cloud("price.set", "P1", ...),
    "no-subject": cloud("price.set", ..., PRICE),
    "no-time": cloud("price.set", "P1", PRICE, time=...),
    "wrong-specversion": cloud("price.set", "P1", PRICE, specversion="0.3"),
    "long-specversion": cloud("price.set", "P1", PRICE, specversion="1" * 2000),
    "wrong-content-type": cloud("price.set", "P1", PRICE, datacontenttype="text/xml"),
    "unknown-type": cloud("price.unset", "P1", PRICE),
    "watermark": cloud("watermark.advanced", "P1", {}),
    "empty-id": cloud("price.set", "P1", PRICE, id=""),
    "long-id": cloud("price.set", "P1", PRICE, id="i" * 257),
    "control-character-in-id": cloud("price.set", "P1", PRICE, id="a\x00b"),
    "line-end-in-source": cloud("price.set", "P1", PRICE, source="a\nb"),
    "time-in-words": cloud("price.set", "P1", PRICE, time="yesterday"),
    "time-in-the-future": cloud("price.set", "P1", PRICE, time="2026-11-24T00:00:00Z"),
    "time-past-the-last": cloud("price.set", "P1", PRICE, time="9999-99-99T99:99:99Z"),
    "another-sku": cloud("price.set", "P1", PRICE | {"sku": "P2"}),
    "negative-count": cloud("inventory.counted", "P1", COUNT | {"onHand": -1}),
    "fractional-count": cloud("inventory.counted", "P1", COUNT | {"onHand": 1.5}),
    "count-out-of-range": cloud("inventory.counted", "P1", COUNT | {"onHand": 10**12 + 1}),
    "count-past-64-bits": cloud("inventory.counted", "P1", COUNT | {"onHand": 10**30}),
    "count-in-words": cloud("inventory.counted", "P1", COUNT | {"onHand": "x" * 3000}),
    "delta-out-of-range": cloud("inventory.adjusted", "P1", {"sku": "P1", "location": "L", "delta": -(2**63), "reason": "r"}),
    "price-as-number": cloud("price.set", "P1", PRICE | {"amount": 12.5}),
    "price-negative": cloud("price.set", "P1", PRICE | {"amount": "-1"}),
    "price-with-plus": cloud("price.set", "P1", PRICE | {"amount": "+1"}),
    "price-with-exponent": cloud("price.set", "P1", PRICE | {"amount": "1e3"}),
    "price-with-underscores": cloud("price.set", "P1", PRICE | {"amount": "1_000"}),
    "price-without-fraction": cloud("price.set", "P1", PRICE | {"amount": "1."}),
    "price-too-precise": cloud("price.set", "P1", PRICE | {"amount": "0.0000000000001"}),
    "price-too-large": cloud("price.set", "P1", PRICE | {"amount": "9" * 40}),
    "price-not-a-number": cloud("price.set", "P1", PRICE | {"amount": "NaN"}),
    "currency-unknown": cloud("price.set", "P1", PRICE | {"currency": "XXY"}),
    "currency-without-minor-unit": cloud("price.set", "P1", PRICE | {"currency": "XAU"}),
    "repeated-field": cloud("price.set", "P1", PRICE).replace('"id": "e1"', '"id": "e1", "id": "e2"'),
    "lone-surrogate": cloud("price.set", "P1", PRICE).replace("e1", "\\ud800"),
    "trailing-text": cloud("price.set", "P1", PRICE) + " {}",
    "byte-order-mark": "\ufeff" + cloud("price.set", "P1", PRICE),
    "dimensions-not-text": cloud("journey.recorded", "v", {"visitor": "v", "action": "a", "dimensions": {"n": 1}}),
    "too-large": cloud("visitor.erased", "v", {"visitor": "v", "pad": "x" * 5000}),
}


def events():
    for name, text in EVENTS.items():
        write("event", f"taken-{name}.jsonl", text + "\n")
    for name, text in EVIL.items():
        write("event", f"refused-{name}.jsonl", text + "\n")
    write("event", "refused-not-utf-8.jsonl", b'{"specversion":"1.0","id":"\xc3\x28"}\n\xff\xfe\n')
    write("event", "refused-pretty-printed.jsonl", json.dumps(json.loads(EVENTS["price"]), indent=1))
    write("event", "taken-all-types.jsonl", "".join(text + "\n" for name, text in EVENTS.items() if "long" not in name))
    write("event", "taken-no-line-end.jsonl", EVENTS["price"])
    write("event", "taken-blank-lines-and-carriage-returns.jsonl", "\n \r\n\t\n" + EVENTS["price"] + "\r\n\n\r\n" + EVENTS["count"] + "\n\n")
    write("event", "taken-nothing.jsonl", "\n\n \n")
    write("event", "mixed-good-and-bad.jsonl", "\n".join([EVENTS["price"], EVIL["negative-count"], "", EVENTS["count"], EVIL["not-json"], EVENTS["erasure"]]) + "\n")
    write("event", "mixed-too-large-between.jsonl", "\n".join([EVENTS["price"], EVIL["too-large"], EVENTS["count"]]))


for target in ["operation", "event"]:
    shutil.rmtree(ROOT / target, ignore_errors=True)
    (ROOT / target).mkdir(parents=True)
operations_that_run()
operations_that_are_wrong()
operations_that_hurt()
events()
