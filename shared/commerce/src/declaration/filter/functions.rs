//! Owns the functions that expressions can call: those of jq that need neither recursion nor the outside, and
//! `minor_units`.

use std::str::FromStr;

use jaq_core::{
    DataT, RunPtr, ValR,
    load::parse::Def,
    native::{Fun, bome, run, v},
};
use rust_decimal::Decimal;

use super::value::{Val, spend, wrong};

/// The functions that are written in jq itself. `maybe` is none of jq's own: it leaves `null` as it is.
const DEFINITIONS: &str = r#"
def empty: {}[] as $x | .;
def null: [][0];
def true: 0 == 0;
def false: 0 != 0;
def not: if . then false else true end;
def select(f): if f then . else empty end;
def values: select(. != null);
def maybe(f): if . == null then null else f end;
def tostring: "\(.)";
def range(from; to): range(from; to; 1);
def range(to): range(0; to);
def map(f): [.[] | f];
def map_values(f): .[] |= f;
def del(f): f |= empty;
def add(f): reduce f as $x (null; . + $x);
def add: add(.[]);
def to_entries: [key_values[] as [$key, $value] | { $key, $value }];
def from_entries: reduce (.[] | { (.key): .value }) as $x ({}; . + $x);
def with_entries(f): to_entries | map(f) | from_entries;
def keys: keys_unsorted;
def isempty(g): first((g | false), true);
def all(g; cond): isempty(g | cond and empty);
def any(g; cond): isempty(g | cond or empty) | not;
def all(cond): all(.[]; cond);
def any(cond): any(.[]; cond);
def first: .[0];
def last: .[-1];
def sort_by(f): map([[f], .]) | sort | map(.[1]);
def min_by(f): sort_by(f) | .[0];
def max_by(f): sort_by(f) | .[-1];
def min: sort | .[0];
def max: sort | .[-1];
def unique: sort | reduce .[] as $x ([]; if .[-1] == $x and . != [] then . else . + [$x] end);
def split($separator): . / $separator;
def join($separator): reduce .[] as $x (null; if . == null then "" else . + $separator end + ($x // "" | tostring)) // "";
def strings: select(type == "string");
def numbers: select(type == "number");
def arrays: select(type == "array");
def objects: select(type == "object");
"#;

/// The currencies whose minor unit is not a hundredth, with the digits behind the point [ISO 4217, list one].
const DIGITS: &[(&str, u32)] = &[
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Returns the definitions.
pub(super) fn definitions() -> Vec<Def<&'static str>> {
    jaq_core::load::parse(DEFINITIONS, |parser| parser.defs()).unwrap_or_default()
}

/// Returns the functions that are written in Rust.
pub(super) fn natives<D: for<'a> DataT<V<'a> = Val>>() -> impl Iterator<Item = Fun<D>> {
    /// The functions of jq's core that expressions can use. The others, such as `path`, are left out.
    const CORE: &[&str] = &["range", "keys_unsorted", "key_values", "first", "last", "limit", "skip"];
    let core = jaq_core::funs::<D>().filter(|(name, ..)| CORE.contains(name));
    let own: [(&'static str, usize, RunPtr<D>); 24] = [
        ("length", 0, |cv| bome(length(&cv.1))),
        ("type", 0, |cv| bome(Ok(Val::text(cv.1.kind())))),
        ("tonumber", 0, |cv| bome(number(&cv.1))),
        ("floor", 0, |cv| bome(cv.1.as_number().map(|number| Val::Num(number.floor())))),
        ("round", 0, |cv| bome(cv.1.as_number().map(|number| Val::Num(number.round())))),
        ("abs", 0, |cv| bome(cv.1.as_number().map(|number| Val::Num(number.abs())))),
        ("ascii_downcase", 0, |cv| bome(changed(&cv.1, |text| text.to_ascii_lowercase()))),
        ("ascii_upcase", 0, |cv| bome(changed(&cv.1, |text| text.to_ascii_uppercase()))),
        ("trim", 0, |cv| bome(changed(&cv.1, |text| text.trim().to_owned()))),
        ("sort", 0, |cv| bome(sorted(&cv.1))),
        ("reverse", 0, |cv| bome(cv.1.as_list().map(|list| Val::list(list.iter().rev().cloned().collect())))),
        ("fromjson", 0, |cv| bome(from_json(&cv.1))),
        ("tojson", 0, |cv| bome(Ok(Val::text(&cv.1.json().to_string())))),
        ("todate", 0, |cv| bome(date(&cv.1))),
        ("fromdate", 0, |cv| bome(seconds(&cv.1))),
        ("has", 1, |mut cv| {
            let name = cv.0.pop_var();
            bome(has(&cv.1, &name))
        }),
        ("contains", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(contains(&cv.1, &part))
        }),
        ("startswith", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(tested(&cv.1, &part, |text, part| text.starts_with(part)))
        }),
        ("endswith", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(tested(&cv.1, &part, |text, part| text.ends_with(part)))
        }),
        ("ltrimstr", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(trimmed(cv.1, &part, |text, part| text.strip_prefix(part)))
        }),
        ("rtrimstr", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(trimmed(cv.1, &part, |text, part| text.strip_suffix(part)))
        }),
        ("minor_units", 1, |mut cv| {
            let currency = cv.0.pop_var();
            bome(minor_units(&cv.1, &currency))
        }),
        ("index", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(position(&cv.1, &part))
        }),
        ("flatten", 0, |cv| bome(flat(&cv.1))),
    ];
    core.chain(own.into_iter().map(|(name, arguments, function)| run::<D>((name, v(arguments), function))))
}

fn length(value: &Val) -> ValR<Val> {
    let length = match value {
        Val::Null => 0,
        Val::Text(text) => text.chars().count(),
        Val::List(_) => value.as_list()?.len(),
        Val::Object(_) => return Ok(Val::Num(Decimal::from(value.names().count()))),
        Val::Num(number) => return Ok(Val::Num(number.abs())),
        Val::Bool(_) => return Err(wrong("boolean has no length")),
    };
    Ok(Val::Num(Decimal::from(length)))
}

fn number(value: &Val) -> ValR<Val> {
    match value {
        Val::Num(_) => Ok(value.clone()),
        other => {
            let text = other.as_text()?.trim();
            let number = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
            number.map(Val::Num).map_err(|_| wrong("the string is no number of 28 digits at most"))
        }
    }
}

fn changed(value: &Val, change: fn(&str) -> String) -> ValR<Val> {
    let text = value.as_text()?;
    spend(text.len());
    Ok(Val::text(&change(text)))
}

fn sorted(value: &Val) -> ValR<Val> {
    let mut list = value.as_list()?.to_vec();
    spend(list.len());
    list.sort();
    Ok(Val::list(list))
}

fn flat(value: &Val) -> ValR<Val> {
    let mut flat = Vec::new();
    for element in value.as_list()? {
        match element {
            Val::List(_) => flat.extend_from_slice(flat_once(element)?),
            other => flat.push(other.clone()),
        }
        spend(1);
    }
    Ok(Val::list(flat))
}

fn flat_once(value: &Val) -> Result<&[Val], jaq_core::Error<Val>> {
    let list = value.as_list()?;
    spend(list.len());
    Ok(list)
}

fn from_json(value: &Val) -> ValR<Val> {
    let text = value.as_text()?;
    spend(text.len());
    let read = crate::json::value(text.as_bytes()).map_err(|_| wrong("the string is no JSON"))?;
    Val::of(read).map_err(|why| wrong(&why))
}

/// Returns the time of seconds since 1970, as RFC 3339.
fn date(value: &Val) -> ValR<Val> {
    let number = value.as_number()?;
    let micros = number.checked_mul(Decimal::from(1_000_000)).and_then(|micros| i64::try_from(micros.trunc()).ok());
    let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    time.map(|time| Val::text(&time.to_string())).ok_or_else(|| wrong("the number is no time"))
}

/// Returns the seconds since 1970 of a time as RFC 3339.
fn seconds(value: &Val) -> ValR<Val> {
    let time = jiff::Timestamp::from_str(value.as_text()?).map_err(|_| wrong("the string is no time (RFC 3339)"))?;
    Ok(Val::Num(Decimal::new(time.as_microsecond(), 6).normalize()))
}

fn has(value: &Val, name: &Val) -> ValR<Val> {
    match (value, name) {
        (Val::Object(_), Val::Text(name)) => Ok(Val::Bool(value.names().any(|own| own == &**name))),
        (Val::List(_), Val::Num(at)) => {
            let length = Decimal::from(value.as_list()?.len());
            Ok(Val::Bool(!at.is_sign_negative() && *at < length))
        }
        (value, name) => Err(wrong(&format!("{} has nothing at a {}", value.kind(), name.kind()))),
    }
}

fn contains(value: &Val, part: &Val) -> ValR<Val> {
    match (value, part) {
        (Val::List(_), part) => Ok(Val::Bool(value.as_list()?.contains(part))),
        (value, part) => tested(value, part, |text, part| text.contains(part)),
    }
}

fn tested(value: &Val, part: &Val, test: fn(&str, &str) -> bool) -> ValR<Val> {
    spend(value.as_text()?.len());
    Ok(Val::Bool(test(value.as_text()?, part.as_text()?)))
}

fn trimmed(value: Val, part: &Val, trim: for<'t> fn(&'t str, &str) -> Option<&'t str>) -> ValR<Val> {
    let (Val::Text(text), Val::Text(part)) = (&value, part) else { return Ok(value) };
    Ok(trim(text, part).map_or_else(|| value.clone(), Val::text))
}

fn position(value: &Val, part: &Val) -> ValR<Val> {
    let (text, part) = (value.as_text()?, part.as_text()?);
    spend(text.len());
    let at = text.find(&**part).map(|at| text[..at].chars().count());
    Ok(at.map_or(Val::Null, |at| Val::Num(Decimal::from(at))))
}

/// Returns the amount of a number of minor units, such as 10.99 for 1099 cents.
fn minor_units(value: &Val, currency: &Val) -> ValR<Val> {
    let currency = currency.as_text()?.to_ascii_uppercase();
    if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Err(wrong("a currency has three letters"));
    }
    let digits = DIGITS.iter().find(|(code, _)| *code == currency).map_or(2, |(_, digits)| *digits);
    let amount = value.as_number()?.checked_mul(Decimal::new(1, digits));
    amount.map(Val::Num).ok_or_else(|| wrong("the amount has more than 28 digits"))
}
