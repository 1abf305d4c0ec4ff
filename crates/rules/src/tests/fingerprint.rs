use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::{digest, digest_text, documents, plain, same};

fn none() -> Exclusions {
    Exclusions::default()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn text(json: &str) -> String {
    hex(&Fingerprint::of_canonical(digest_text(json, &none()), 0).digest)
}

fn tokens(tokens: &[Token<'_>]) -> [u8; 32] {
    let exclude = none();
    let mut canonical = Canonical::new(&exclude);
    for token in tokens {
        canonical.token(*token);
    }
    canonical.finish()
}

/// Computed by another implementation (Python's json, decimal and hashlib). A change here makes
/// every stored request a mismatch: make a new version instead.
#[test]
fn golden() {
    let long_text = format!("\"{}\"", "x".repeat(1000));
    let long_array = format!("[{}]", vec![format!("\"{}\"", "y".repeat(50)); 40].join(","));
    let golden = [
        ("null", "76fae3c085bb43bf34b254b13bd8d00d"),
        ("true", "a861f99aa84ba546e7d9b5e5504c4e98"),
        ("false", "a85bd4c502b4a11952b62122afd49dec"),
        ("0", "5e2d26e1c33911cb072566cf820f79ca"),
        ("1", "63d33bbf9362519ecbb5be8d4b1051f1"),
        ("-1", "2bc7554f3dcd2754233cd29b22d8c5d3"),
        ("\"1\"", "5f7bdd0ab95447a2cff986cfb73b4b77"),
        ("\"\"", "bb7e1a2af3f46be6e6dc77eebe96b06a"),
        ("[]", "c66a2ab10f34374d3a57e9b544246854"),
        ("{}", "d1b5f23eb41bd11922b23b5958905748"),
        ("[[1],2]", "f4301ce82309b1ef81ab6835e8eb6e88"),
        ("[1,[2]]", "f3b141428e4ad9eca59074f68de4427c"),
        (
            r#"{"amount":120.50,"currency":"EUR","lines":[{"sku":"a","n":3},{"n":1e3,"sku":"bb"}],
                "note":null,"paid":false}"#,
            "36931ca74a7c9b2f97231534c5b198a6",
        ),
        (r#"{"a":{"b":{}},"ä":"ö"}"#, "7e88a2d4a643686f8a02dfd66e0649b6"),
        (&long_text, "b04d80b61e0fe8656e246be971522d8b"),
        (&long_array, "089f36bf3b8fdc30eb2c8dc5728406eb"),
    ];
    for (json, digest) in golden {
        assert_eq!(text(json), digest, "{json}");
    }
    // Numbers that a double would lose.
    let number = |number: &str| hex(&tokens(&[Token::Number(number.as_bytes())])[..16]);
    assert_eq!(number("123456789012345678901234567890"), "0c7976d6a8bbf59c32a9186d37a478cf");
    assert_eq!(number("-0.001e-20"), "50967d4451fd0eceb8851351bf195502");
    let caller = |bytes: &[u8]| hex(&Fingerprint::of_bytes(bytes).digest);
    assert_eq!(caller(b""), "e3b0c44298fc1c149afbf4c8996fb924");
    assert_eq!(caller(b"order 7"), "0fc89f8ae19394b48debd6353bb9ad33");
}

#[test]
fn the_version_is_part_of_a_fingerprint() {
    let digest = Sha256::digest(b"x").into();
    let (json, caller) = (Fingerprint::of_canonical(digest, 0), Fingerprint::of_bytes(b"x"));
    assert_eq!((json.version, caller.version), (JSON_V1, CALLER_V1));
    assert_eq!(json.digest, caller.digest);
    assert_ne!(json, caller);
    let http = Fingerprint::of_http(digest, 0);
    assert_eq!((http.version, http.digest), (HTTP_V1, json.digest));
}

#[test]
fn the_number_of_the_exclusions_can_be_told_from_a_version() {
    let digest = Sha256::digest(b"x").into();
    let mut versions = vec![Fingerprint::of_bytes(b"x").version];
    for set in [0, 1, 2, LAST_SET] {
        for made in [Fingerprint::of_canonical(digest, set), Fingerprint::of_http(digest, set)] {
            assert_eq!(made.exclusions(), Some(set));
            versions.push(made.version);
        }
    }
    assert_eq!(Fingerprint::of_bytes(b"x").exclusions(), None);
    assert_eq!(Fingerprint::ANY.exclusions(), None);
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 9);
}

#[test]
fn types_and_structures_are_told_apart() {
    let documents = r#"
        null "null" true "true" false [] {} [[]] [{}] [null] "" "[]" ["{}"]
        0 1 "1" [1] [[1]] {"1":1} -1 10 0.1 1.5 "1.5" [1,5] [12] [1,2] [2,1] [1,2,2] [[1],2] [1,[2]]
        ["1","2"] ["12"] ["1,2"] ["","12"] ["12",""] ["a","b"]
        {"a":"b"} {"ab":""} {"":"ab"} {"a":null} {"a":{}} {"a":[]} {"b":"a"}
        {"a":{"b":1},"c":2} {"a":{"b":1,"c":2}} [{"a":1,"b":2}] [{"a":1},{"b":2}]
    "#;
    let documents: Vec<_> = documents.split_whitespace().collect();
    for (at, one) in documents.iter().enumerate() {
        for other in &documents[..at] {
            assert_ne!(text(one), text(other), "{one} and {other}");
        }
    }
}

#[test]
fn spelling_does_not_matter() {
    let one = text(r#"{"amount": 1.00, "to": {"iban": "x", "bic": null}}"#);
    let other = text("{\"to\":{\"bic\":null,\n\"iban\":\"\\u0078\"},\"amount\":1e0}");
    assert_eq!(one, other);
}

#[test]
fn what_is_no_number_stands_for_itself() {
    let number = |text: &'static str| tokens(&[Token::Number(text.as_bytes())]);
    assert_eq!(number("NaN"), number("NaN"));
    assert_ne!(number("NaN"), number("nan"));
    assert_ne!(number("NaN"), tokens(&[Token::String(b"NaN")]));
    assert_ne!(number(""), tokens(&[]));
    // An exponent that cannot be counted: never taken for another value.
    assert_ne!(number("1e9223372036854775808"), number("1e9223372036854775807"));
    assert_ne!(number("1e9223372036854775808"), number("1e9223372036854775809"));
}

/// A number as Postgres would store it, perhaps with zeros at either end.
fn stored(text: &str) -> (bool, Vec<i16>, i16) {
    let negative = text.starts_with('-');
    let text = text.trim_start_matches(['-', '+']);
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let power: i64 = power.parse().unwrap();
    let mut decimals = format!("{whole}{fraction}");
    // The power of ten of the last one, made a multiple of four.
    let last = power - i64::try_from(fraction.len()).unwrap();
    decimals.push_str(&"0".repeat(usize::try_from(last.rem_euclid(4)).unwrap()));
    while !decimals.len().is_multiple_of(4) {
        decimals.insert(0, '0');
    }
    let digits: Vec<i16> = decimals
        .as_bytes()
        .chunks(4)
        .map(|four| String::from_utf8_lossy(four).parse().unwrap())
        .collect();
    let lowest = last.div_euclid(4);
    let weight = lowest + i64::try_from(digits.len()).unwrap() - 1;
    (negative, digits, i16::try_from(weight).unwrap())
}

fn of_stored(text: &str) -> [u8; 32] {
    let (negative, digits, weight) = stored(text);
    tokens(&[Token::Digits(Digits { negative, digits: &digits, weight })])
}

#[test]
fn a_number_is_the_same_by_its_digits_and_by_its_text() {
    for text in [
        "0",
        "0.000",
        "1",
        "-1",
        "10",
        "100",
        "1000",
        "10000",
        "9999",
        "10001",
        "12345678",
        "0.1",
        "0.01",
        "0.001",
        "0.0001",
        "0.00012",
        "-120.50",
        "1e131071",
        "1e-16383",
        "123e5",
        "5e-7",
        "99990000.0001",
        "333333333.33333329",
        "120000000000000000000000000000000000000000000000000000000000000000000001",
    ] {
        assert_eq!(
            hex(&of_stored(text)),
            hex(&tokens(&[Token::Number(text.as_bytes())])),
            "{text}"
        );
    }
    let zero = Digits { negative: true, digits: &[], weight: 0 };
    assert_eq!(tokens(&[Token::Digits(zero)]), tokens(&[Token::Number(b"0")]));
}

/// Counted, as what takes time is what is hashed: nine bytes of text were 131,072 before.
#[test]
fn a_number_is_hashed_in_proportion_to_its_digits() {
    for (text, digits) in
        [("1e131071", 1), ("-12e131000", 2), ("1e-16383", 1), ("123456789e100000", 9)]
    {
        let (negative, stored, weight) = stored(text);
        let significant = Digits { negative, digits: &stored, weight }.significant().unwrap();
        let mut written = 0;
        significant.write(|decimals| written += decimals.len());
        assert_eq!((written, significant.count()), (digits, digits), "{text}");
    }
}

#[test]
fn huge_exponents_cost_nothing() {
    let number = |text: &'static str| tokens(&[Token::Number(text.as_bytes())]);
    assert_eq!(number("1e999999999999"), number("10e999999999998"));
    assert_ne!(number("1e999999999999"), number("1e999999999998"));
    assert_eq!(number("0e999999999999"), number("-0"));
}

#[test]
fn depth_is_no_limit() {
    let exclude = Exclusions::parse(["/a/b", "c"]).unwrap();
    let deep = |depth: usize, exclude: &Exclusions| {
        let mut canonical = Canonical::new(exclude);
        for _ in 0..depth {
            canonical.token(Token::BeginObject);
            canonical.token(Token::Member(b"a"));
            canonical.token(Token::BeginArray);
        }
        for _ in 0..depth {
            canonical.token(Token::EndArray);
            canonical.token(Token::EndObject);
        }
        canonical.finish()
    };
    assert_ne!(deep(100_000, &none()), deep(99_999, &none()));
    assert_eq!(deep(100_000, &exclude), deep(100_000, &none()));
}

#[test]
fn tokens_that_make_no_document_do_no_harm() {
    let exclude = Exclusions::parse(["a"]).unwrap();
    for exclude in [&exclude, &none()] {
        let mut canonical = Canonical::new(exclude);
        for token in [Token::EndObject, Token::EndArray, Token::Member(b"a"), Token::EndObject] {
            canonical.token(token);
        }
        let _ = canonical.finish();
    }
}

/// Another spelling of the same number.
fn respell(number: &str) -> String {
    let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
    let point = if mantissa.contains('.') { "" } else { "." };
    format!("{mantissa}{point}000E{exponent}")
}

/// Every document that differs from this one in one place.
fn neighbours(value: &Value) -> Vec<Value> {
    let mut all = vec![json!([value]), json!({ "a": value })];
    match value {
        Value::Null => all.push(json!("")),
        Value::Bool(value) => all.push(json!(!value)),
        Value::Number(number) => {
            all.push(Value::from(number.to_string()));
            all.push(Value::from(number.as_f64().unwrap().abs() / 4.0 + 0.125));
        }
        Value::String(text) => {
            all.push(json!(format!("{text}x")));
            all.push(json!(format!("x{text}")));
        }
        Value::Array(values) => {
            all.push([values.as_slice(), &[Value::Null]].concat().into());
            for at in 0..values.len() {
                let mut fewer = values.clone();
                fewer.remove(at);
                all.push(fewer.into());
                let mut turned = values.clone();
                turned[at..].reverse();
                if !same(&turned.clone().into(), value) {
                    all.push(turned.into());
                }
                for neighbour in neighbours(&values[at]) {
                    let mut other = values.clone();
                    other[at] = neighbour;
                    all.push(other.into());
                }
            }
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("new".to_owned(), Value::Null);
            all.push(more.into());
            for (name, value) in members {
                let mut fewer = members.clone();
                fewer.remove(name);
                all.push(fewer.clone().into());
                fewer.insert(format!("{name}x"), value.clone());
                all.push(fewer.into());
                for neighbour in neighbours(value) {
                    let mut other = members.clone();
                    other.insert(name.clone(), neighbour);
                    all.push(other.into());
                }
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn numbers_are_the_same_by_their_digits(text in "-?[0-9]{1,30}(\\.[0-9]{1,30})?(e-?[0-9]{1,4})?") {
        prop_assert_eq!(of_stored(&text), tokens(&[Token::Number(text.as_bytes())]), "{}", text);
    }

    #[test]
    fn equal_documents_and_only_they_are_equal(one in documents(), other in documents()) {
        let digests = [&one, &other].map(|value| digest(value, &none(), &plain));
        prop_assert_eq!(digests[0] == digests[1], same(&one, &other));
    }

    #[test]
    fn numbers_are_values(value in documents()) {
        prop_assert_eq!(digest(&value, &none(), &respell), digest(&value, &none(), &plain));
    }

    #[test]
    fn member_order_and_white_space_do_not_matter(value in documents()) {
        // Written with white space, and read back into another map.
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(digest_text(&pretty, &none()), digest(&value, &none(), &plain));
    }

    #[test]
    fn any_change_shows(value in documents()) {
        let own = digest(&value, &none(), &plain);
        for neighbour in neighbours(&value) {
            prop_assert_ne!(digest(&neighbour, &none(), &plain), own, "{}", neighbour);
        }
    }

    /// Where the buffer ends makes no difference.
    #[test]
    fn buffering_is_invisible(lengths in prop::collection::vec(
        prop_oneof![0..40_usize, 126..131_usize, BUFFER - 9..BUFFER + 9, 0..3 * BUFFER], 0..8,
    )) {
        let texts: Vec<_> = lengths.iter().map(|length| vec![b'x'; *length]).collect();
        let all: Vec<_> = texts.iter().map(|text| Token::String(text)).collect();
        let mut stream = vec![0, 1];
        for text in &texts {
            stream.push(b'"');
            let byte = |value: usize| u8::try_from(value).unwrap();
            if text.len() < 0x80 {
                stream.push(byte(text.len()));
            } else {
                stream.extend([byte(text.len() % 0x80 + 0x80), byte(text.len() / 0x80)]);
            }
            stream.extend(text);
        }
        let expected: [u8; 32] = Sha256::digest(stream).into();
        prop_assert_eq!(tokens(&all), expected);
    }
}
