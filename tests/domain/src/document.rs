//! Random JSON as people write it: members in any order and twice, numbers in any spelling,
//! characters escaped or not. And what it means, by somebody else's decimal numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr as _;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use proptest::prelude::*;

use rules::request::token::Token;

/// A document, spelled one way.
#[derive(Clone, Debug)]
pub enum Document {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// As it is spelled.
    Number(String),
    /// A string.
    Text(String),
    /// `[...]`
    Array(Vec<Self>),
    /// `{...}`, where the last of several members with one name counts.
    Object(Vec<(String, Self)>),
}

/// What a document means: two are equal exactly when `jsonb` calls them equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Digits without zeros at the end, and how many of them come behind the point.
    Number(BigInt, i64),
    /// A string.
    Text(String),
    /// `[...]`
    Array(Vec<Self>),
    /// `{...}`
    Object(BTreeMap<String, Self>),
}

impl Document {
    /// What it means, or `None` when a number is none.
    pub fn meaning(&self) -> Option<Meaning> {
        Some(match self {
            Self::Null => Meaning::Null,
            Self::Bool(value) => Meaning::Bool(*value),
            Self::Number(text) => number(text)?,
            Self::Text(text) => Meaning::Text(text.clone()),
            Self::Array(values) => {
                Meaning::Array(values.iter().map(Self::meaning).collect::<Option<_>>()?)
            }
            Self::Object(members) => Meaning::Object(
                members
                    .iter()
                    .map(|(name, value)| Some((name.clone(), value.meaning()?)))
                    .collect::<Option<_>>()?,
            ),
        })
    }

    /// The text. `escape` chooses which characters are written as escapes, 64 choices in turn.
    pub fn json(&self, escape: u64) -> String {
        let mut out = String::new();
        self.write(&mut out, &mut escape.clone());
        out
    }

    fn write(&self, out: &mut String, escape: &mut u64) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(text) => out.push_str(text),
            Self::Text(text) => quote(text, out, escape),
            Self::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    value.write(out, escape);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { " " } else { " ,\t" });
                    quote(name, out, escape);
                    out.push(':');
                    value.write(out, escape);
                }
                out.push('}');
            }
        }
    }

    /// The tokens in the order of `jsonb`: by length and then by bytes, each name once.
    pub fn tokens<'a>(&'a self, emit: &mut dyn FnMut(Token<'a>)) {
        match self {
            Self::Null => emit(Token::Null),
            Self::Bool(value) => emit(Token::Bool(*value)),
            Self::Number(text) => emit(Token::Number(text.as_bytes())),
            Self::Text(text) => emit(Token::String(text.as_bytes())),
            Self::Array(values) => {
                emit(Token::BeginArray);
                for value in values {
                    value.tokens(emit);
                }
                emit(Token::EndArray);
            }
            Self::Object(members) => {
                emit(Token::BeginObject);
                let members: BTreeMap<_, _> =
                    members.iter().map(|(name, value)| ((name.len(), name), value)).collect();
                for ((_, name), value) in members {
                    emit(Token::Member(name.as_bytes()));
                    value.tokens(emit);
                }
                emit(Token::EndObject);
            }
        }
    }

    /// The same document in another spelling: `choices` says which.
    #[must_use]
    pub fn respelled(&self, choices: &mut Choices) -> Self {
        match self {
            Self::Number(text) => Self::Number(respell(text, choices)),
            Self::Array(values) => {
                Self::Array(values.iter().map(|value| value.respelled(choices)).collect())
            }
            Self::Object(members) => {
                let last: BTreeMap<_, _> =
                    members.iter().map(|(name, value)| (name, value)).collect();
                let mut spelled: Vec<_> = last
                    .iter()
                    .map(|(name, value)| ((*name).clone(), value.respelled(choices)))
                    .collect();
                for at in (1..spelled.len()).rev() {
                    spelled.swap(at, choices.below(at + 1));
                }
                if !spelled.is_empty() && choices.below(4) == 0 {
                    // A member that a later one of the same name overrides.
                    let name = spelled[choices.below(spelled.len())].0.clone();
                    spelled.insert(0, (name, Self::Text("overridden".to_owned())));
                }
                Self::Object(spelled)
            }
            same => same.clone(),
        }
    }

    /// Another document that looks much like it: one value, found by `choices`, is changed.
    #[must_use]
    pub fn changed(&self, choices: &mut Choices) -> Self {
        let mut changed = self.clone();
        changed.change(choices);
        changed
    }

    fn change(&mut self, choices: &mut Choices) {
        match self {
            Self::Array(values) if !values.is_empty() && choices.below(3) > 0 => {
                let at = choices.below(values.len());
                values[at].change(choices);
            }
            Self::Object(members) if !members.is_empty() && choices.below(3) > 0 => {
                let at = choices.below(members.len());
                match choices.below(6) {
                    0 => drop(members.remove(at)),
                    1 => members[at].0.push('x'),
                    _ => members[at].1.change(choices),
                }
            }
            Self::Array(values) if !values.is_empty() => {
                let (one, other) = (choices.below(values.len()), choices.below(values.len()));
                values.swap(one, other);
            }
            Self::Number(text) => match choices.below(5) {
                0 => *self = Self::Text(text.clone()),
                1 => *text = text.replace('e', "0e"),
                2 => text.push('0'),
                3 if text.starts_with('-') => drop(text.remove(0)),
                3 => text.insert(0, '-'),
                _ => *text = text.replace('1', "2"),
            },
            Self::Text(text) => match choices.below(4) {
                0 => *self = Self::Array(vec![self.clone()]),
                1 => text.push(' '),
                2 => drop(text.pop()),
                _ => *self = Self::Object(vec![(text.clone(), Self::Null)]),
            },
            Self::Bool(value) if choices.below(2) == 0 => *value = !*value,
            Self::Null => *self = Self::Array(vec![]),
            _ => *self = Self::Null,
        }
    }
}

impl Meaning {
    /// Without what the path leads to: a member, or every element of an array.
    pub fn remove(&mut self, path: &[String]) {
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        match self {
            Self::Object(members) if rest.is_empty() => drop(members.remove(name)),
            Self::Object(members) => {
                members.get_mut(name).into_iter().for_each(|member| member.remove(rest));
            }
            Self::Array(elements) if name == EVERY && rest.is_empty() => elements.clear(),
            Self::Array(elements) if name == EVERY => {
                elements.iter_mut().for_each(|element| element.remove(rest));
            }
            _ => {}
        }
    }
}

/// What stands for every element of an array in a path.
const EVERY: &str = "*";

/// Numbers in a row from one seed: what proptest shrinks is the seed.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of `0..count`.
    pub fn below(&mut self, count: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).map_or(0, |value| value % count.max(1))
    }
}

/// What a number means, by somebody else's arithmetic.
pub fn number(text: &str) -> Option<Meaning> {
    let (digits, scale) = BigDecimal::from_str(text).ok()?.normalized().into_bigint_and_exponent();
    Some(Meaning::Number(digits, scale))
}

fn quote(text: &str, out: &mut String, escape: &mut u64) {
    out.push('"');
    for c in text.chars() {
        *escape = escape.rotate_right(1);
        if c < ' ' || c == '"' || c == '\\' || *escape & 1 == 1 {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

/// The same number with the point elsewhere and more zeros. What is no number stays as it is.
fn respell(text: &str, choices: &mut Choices) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else {
        return text.to_owned();
    };
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    match choices.below(4) {
        0 => text.to_owned(),
        // 12.5e3 is 12.500e+3.
        1 => format!("{sign}{integer}.{fraction}{}e{exponent:+}", "0".repeat(1 + choices.below(3))),
        // 12.5e3 is 125e2: JSON wants no zeros in front.
        2 => {
            let digits = format!("{integer}{fraction}");
            let digits = match digits.trim_start_matches('0') {
                "" => "0",
                trimmed => trimmed,
            };
            let shift = i64::try_from(fraction.len()).unwrap_or(0);
            format!("{sign}{digits}E{}", exponent - shift)
        }
        // 12.5e3 is 0.125e5.
        _ => {
            let shift = i64::try_from(integer.len()).unwrap_or(0);
            format!("{sign}0.{integer}{fraction}e{}", exponent + shift)
        }
    }
}

/// Numbers as JSON writes them: small, long, with every kind of exponent, and close to each other.
pub fn numbers() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "-?(0|[1-9][0-9]{0,2})(\\.[0-9]{1,3})?([eE][-+]?[0-9]{1,2})?",
        3 => "-?(0|[12]0{0,4})(\\.0{0,3}[12]0{0,2})?(e[-+]?0?[0-5])?",
        1 => "-?[1-9][0-9]{15,160}(\\.[0-9]{1,40})?(e-?[0-9]{1,3})?",
        1 => prop::sample::select(vec![
            "9007199254740993", "9007199254740992", "9007199254740993.0", "18446744073709551616",
            "-9223372036854775808", "-9223372036854775809", "1e308", "1e309", "5e-324", "4e-324",
            "0.1", "0.1000000000000000055511151231257827", "1e400", "-0", "-0.0e5", "0e1000",
        ]).prop_map(str::to_owned),
    ]
    .boxed()
}

/// Names that often meet, and awkward ones.
pub fn names() -> BoxedStrategy<String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab", "", "0", "1", "/", "~", "~1", "a/b", "ä", "NaN"])
            .prop_map(str::to_owned),
        1 => texts(),
    ]
.boxed()
}

/// Strings: short, looking like other values, and in every script. None holds U+0000, which `jsonb`
/// cannot.
pub fn texts() -> BoxedStrategy<String> {
    prop_oneof![
        2 => "[01eE.+\"\\\\{}\\[\\], tfn-]{0,5}",
        1 => prop::sample::select(vec!["NaN", "Infinity", "-Infinity", "null", "true", "1", "1.0", "\u{feff}", "\u{10ffff}"])
            .prop_map(str::to_owned),
        2 => any::<String>().prop_map(|text| text.replace('\0', "")),
        // Past a byte of length, and past what is gathered before it is hashed.
        1 => ("[aä]{1,3}", 30..400_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
.boxed()
}

/// Documents of every kind of value, a few levels deep.
pub fn documents() -> BoxedStrategy<Document> {
    let leaf = prop_oneof![
        1 => Just(Document::Null),
        1 => any::<bool>().prop_map(Document::Bool),
        4 => numbers().prop_map(Document::Number),
        3 => texts().prop_map(Document::Text),
    ];
    leaf.prop_recursive(5, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Document::Array),
            prop::collection::vec((names(), inner), 0..5).prop_map(Document::Object),
        ]
    })
    .boxed()
}

/// Two documents: the same in another spelling, one that differs a little, or any other.
pub fn pairs() -> BoxedStrategy<(Document, Document)> {
    prop_oneof![
        (documents(), any::<u64>()).prop_map(|(one, seed)| {
            let other = one.respelled(&mut Choices::new(seed));
            (one, other)
        }),
        (documents(), any::<u64>()).prop_map(|(one, seed)| {
            let mut choices = Choices::new(seed);
            let other = one.changed(&mut choices).respelled(&mut choices);
            (one, other)
        }),
        (documents(), documents()),
    ]
    .boxed()
}

/// Paths to members, which often are there, also through and to the elements of arrays.
pub fn paths() -> BoxedStrategy<Vec<Vec<String>>> {
    let name = prop_oneof![3 => names(), 2 => Just(EVERY.to_owned())];
    prop::collection::vec(prop::collection::vec(name, 1..4), 0..4).boxed()
}

/// A path as an entry of `fingerprint_exclude`.
pub fn pointer(path: &[String]) -> String {
    path.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}
