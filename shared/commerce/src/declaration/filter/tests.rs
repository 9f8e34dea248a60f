#![allow(clippy::unwrap_used, clippy::panic)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn filter(text: &str) -> Filter {
    Filter::try_from(text.to_owned()).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn made(text: &str, input: Value) -> Result<Vec<Value>, FilterError> {
    filter(text).run(input, json!({ "topic": "order.paid" }), 10)
}

#[test]
fn expressions_make_values() {
    let order = json!({ "id": 7, "amount": 1099, "currency": "eur", "at": 1_700_000_000,
        "lines": [{ "sku": "b", "price": "1.10" }, { "sku": "a", "price": 2.2 }], "note": null });
    for (text, right) in [
        (".id", json!([7])),
        (".amount / 100", json!([10.99])),
        (".amount | minor_units(\"eur\")", json!([10.99])),
        ("(.amount | minor_units(\"JPY\")), (.amount | minor_units(\"kwd\"))", json!([1099, 1.099])),
        ("0.1 + 0.2", json!([0.3])),
        (".at | todate", json!(["2023-11-14T22:13:20Z"])),
        ("\"2023-11-14T22:13:20.5Z\" | fromdate", json!([1_700_000_000.5])),
        (".lines | map(.sku) | sort | join(\",\")", json!(["a,b"])),
        ("[.lines[] | .price | tonumber] | add", json!([3.3])),
        (".lines | sort_by(.sku) | .[0].sku", json!(["a"])),
        (".lines[] | select(.sku == \"a\") | .price", json!([2.2])),
        ("$delivery.topic | split(\".\") | .[1]", json!(["paid"])),
        (".note // \"none\"", json!(["none"])),
        ("{id: (.id | tostring), \"x\": .currency | ascii_upcase}", json!([{ "id": "7", "x": "EUR" }])),
        ("(.lines | length), (.currency | length)", json!([2, 3])),
        ("with_entries(select(.key == \"id\"))", json!([{ "id": 7 }])),
        ("if .id > 5 then \"big\" else \"small\" end", json!(["big"])),
        (".missing.deeper", json!([null])),
        ("del(.lines, .note, .at) | keys", json!([["amount", "currency", "id"]])),
        (".lines[0].price |= tonumber | .lines[0].price", json!([1.1])),
        ("(.currency | startswith(\"e\")), (.currency | ltrimstr(\"e\"))", json!([true, "ur"])),
        ("empty", json!([])),
        ("try (1 + \"x\") catch \"no\", (.id.x? // \"none\")", json!(["no", "none"])),
        ("[range(3)], ([1,[2,3]] | flatten)", json!([[0, 1, 2], [1, 2, 3]])),
        ("[\"b\",\"a\",\"b\"] | unique", json!([["a", "b"]])),
        ("\"{\\\"a\\\":1}\" | fromjson | .a", json!([1])),
        ("has(\"id\"), any(.lines[]; .sku == \"c\"), ([1,2] | contains(2))", json!([true, false, true])),
        ("\"\\(.currency)-\\(.amount)\"", json!(["eur-1099"])),
        (".lines[1:] | map(.sku)", json!([["a"]])),
        ("reduce .lines[] as $line (0; . + ($line.price | tonumber))", json!([3.3])),
    ] {
        assert_eq!(made(text, order.clone()), Ok(right.as_array().unwrap().clone()), "{text}");
    }
}

#[test]
fn what_an_expression_may_not_be_is_told() {
    for (text, why) in [
        (".a |", "is no jq: something is missing at its end"),
        ("(", "is no jq: something is missing at its end"),
        ("def f: f; f", "define and include nothing"),
        ("\"\\(def f: 1; f)\"", "define and include nothing"),
        ("include \"a\"; .", "define and include nothing"),
        ("input", "has an unknown filter: input"),
        ("env", "has an unknown filter: env"),
        ("now", "has an unknown filter: now"),
        ("halt", "has an unknown filter: halt"),
        ("recurse(.a)", "has an unknown filter"),
        ("repeat(1)", "has an unknown filter"),
        ("$other", "has an unknown variable"),
        (&"(".repeat(25), "24 brackets"),
        (&". | ".repeat(1000), "words and signs"),
        (&"a".repeat(9000), "8192 bytes"),
    ] {
        let refused = Filter::try_from(text.to_owned()).unwrap_err();
        assert!(refused.contains(why), "{}: {refused}", &text[..text.len().min(40)]);
    }
}

#[test]
fn no_expression_exceeds_its_budget() {
    let wide = json!({ "a": vec!["x".repeat(100); 100] });
    for text in [
        "[range(1000000000)] | length",
        "[range(0; 1; 0)]",
        "reduce range(1000000) as $i (\"x\"; . + .)",
        "reduce range(1000000) as $i ([1]; . + .)",
        "reduce range(100000) as $i (0; [.])",
        "reduce range(100000) as $i (0; {a: .})",
        "[.a[] as $a | .a[] as $b | .a[] as $c | .a[] as $d | $a + $b + $c + $d]",
        "last(range(1000000000))",
        "reduce range(100000) as $i ({}; .[$i | tostring] = 1)",
        "first(range(1000000000) | select(. < 0))",
    ] {
        assert_eq!(made(text, wide.clone()), Err(FilterError::Spent), "{text}");
    }
    // The longest chain that is allowed runs on the stack of a test.
    let chain = vec!["."; MAX_TOKENS / 2].join("|");
    assert_eq!(made(&chain, json!(1)), Ok(vec![json!(1)]));
    let nested = format!("{}.{}", "not|not|".repeat(300), "|not".repeat(100));
    assert_eq!(made(&nested, json!(1)), Ok(vec![json!(true)]));
    assert!(matches!(made("range(11)", json!(1)), Err(FilterError::Failed(_))));
}

#[test]
fn no_error_shows_a_value() {
    for text in [
        ".secret + 1",
        ".secret[0]",
        ".secret | tonumber",
        ".[\"secret\"].x",
        ".secret | fromjson",
        "-.secret",
        "path(.secret)",
        "(.secret | . + 1) |= 2",
        "first(.secret) = 1",
        "limit(.secret; 1)",
        "range(.secret)",
        "{(1): .secret}",
        "(1 | .secret)",
        "\"a\" | .[.secret]",
        "[.secret] | .[\"a\"]",
    ] {
        if let Err(why) = Filter::try_from(text.to_owned())
            .map(|filter| filter.run(json!({ "secret": "s3cr3t" }), json!({}), 10).unwrap_err().to_string())
        {
            assert!(text.starts_with("path("), "{text}: {why}");
        }
        if let Ok(filter) = Filter::try_from(text.to_owned()) {
            let why = filter.run(json!({ "secret": "s3cr3t" }), json!({}), 10).unwrap_err().to_string();
            assert!(!why.contains("s3cr3t"), "{text}: {why}");
        }
    }
    let large = json!({ "n": 1e300, "id": "s3cr3t" });
    assert_eq!(made(".", large), Err(FilterError::Failed("a number is larger or finer than 28 digits".to_owned())));
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in "[a-z.$\"\\\\(){}\\[\\]|,:;0-9 @?/+*-]{0,60}") {
        if let Ok(filter) = Filter::try_from(text) {
            let _ = filter.run(json!({ "a": [1, "b", null] }), Value::Null, 5);
        }
    }

    #[test]
    fn sums_of_money_are_exact(cents in proptest::collection::vec(-1_000_000_000_i64..1_000_000_000, 0..50)) {
        let total: i64 = cents.iter().sum();
        let sum = made("[.[] | minor_units(\"EUR\")] | (add // 0) * 100", json!(cents)).unwrap();
        prop_assert_eq!(sum, vec![json!(total)]);
    }
}
