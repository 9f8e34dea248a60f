//! Owns the values that expressions work on: JSON with decimal numbers, within a budget.
//!
//! Every value that is made costs as much of the budget as it takes, so the budget bounds time and memory alike.

use std::{
    cell::Cell,
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    ops::{Add, Div, Mul, Neg, Rem, Sub},
    panic::resume_unwind,
    rc::Rc,
};

use jaq_core::{Error, Exn, ValR, ValT, ValX, box_iter::BoxIter, ops::Math, path::Opt, val::Range};
use rust_decimal::Decimal;
use serde_json::{Number, Value};

/// The most levels of a value.
pub(super) const MAX_LEVELS: u16 = 100;

thread_local! {
    static BUDGET: Cell<u64> = const { Cell::new(0) };
}

/// The payload of the unwinding that ends an expression whose budget is spent.
pub(super) struct Spent;

/// Sets the budget for what runs next on this thread.
pub(super) fn allow(steps: u64) {
    BUDGET.set(steps);
}

/// Takes some of the budget. jaq asks for its table at each step and takes no error there, so what exceeds the budget
/// unwinds; [`super::Filter::run`] catches it.
pub(super) fn spend(steps: usize) {
    let left = BUDGET.get().checked_sub(steps as u64);
    BUDGET.set(left.unwrap_or(0));
    if left.is_none() {
        resume_unwind(Box::new(Spent));
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Val {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, exact.
    Num(Decimal),
    /// A text.
    Text(Rc<str>),
    /// A list.
    List(Rc<List>),
    /// An object.
    Object(Rc<Object>),
}

/// The elements of a list.
#[derive(Clone, Debug)]
pub struct List {
    levels: u16,
    of: Vec<Val>,
}

/// The members of an object.
#[derive(Clone, Debug)]
pub struct Object {
    levels: u16,
    of: BTreeMap<Rc<str>, Val>,
}

type Members = BTreeMap<Rc<str>, Val>;

impl Val {
    pub(super) fn text(text: &str) -> Self {
        spend(1 + text.len());
        Self::Text(text.into())
    }

    pub(super) fn list(of: Vec<Self>) -> Self {
        spend(1 + of.len());
        Self::List(Rc::new(List { levels: above(of.iter()), of }))
    }

    pub(super) fn object(of: Members) -> Self {
        spend(1 + of.len());
        Self::Object(Rc::new(Object { levels: above(of.values()), of }))
    }

    fn levels(&self) -> u16 {
        match self {
            Self::List(list) => list.levels,
            Self::Object(object) => object.levels,
            _ => 0,
        }
    }

    /// Returns the name of the type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Num(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }

    fn order(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(false) => 1,
            Self::Bool(true) => 2,
            Self::Num(_) => 3,
            Self::Text(_) => 4,
            Self::List(_) => 5,
            Self::Object(_) => 6,
        }
    }

    /// Returns the text, or fails. The error names the type alone, never the value.
    pub(super) fn as_text(&self) -> Result<&Rc<str>, Error<Self>> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(wrong(&format!("{} is no string", other.kind()))),
        }
    }

    pub(super) fn as_number(&self) -> Result<Decimal, Error<Self>> {
        match self {
            Self::Num(number) => Ok(*number),
            other => Err(wrong(&format!("{} is no number", other.kind()))),
        }
    }

    /// Returns the names of an object's members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let members = if let Self::Object(object) = self { Some(&object.of) } else { None };
        members.into_iter().flat_map(|members| members.keys().map(|name| &**name))
    }

    pub(super) fn as_list(&self) -> Result<&[Self], Error<Self>> {
        match self {
            Self::List(list) => Ok(&list.of),
            other => Err(wrong(&format!("{} is no array", other.kind()))),
        }
    }

    /// Returns the position that a number means in something of a length.
    fn position(&self, length: usize) -> Option<usize> {
        let Self::Num(number) = self else { return None };
        let at = i64::try_from(number.floor()).ok()?;
        let at = if at < 0 { at.checked_add(i64::try_from(length).ok()?)? } else { at };
        usize::try_from(at).ok()
    }

    /// Makes the value of JSON.
    ///
    /// # Errors
    /// Names what cannot be: a number that is not exact, or too many levels.
    pub(super) fn of(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(truth),
            Value::Number(number) => Self::Num(exact(&number).ok_or("a number is larger or finer than 28 digits")?),
            Value::String(text) => Self::text(&text),
            Value::Array(elements) => {
                let mut of = Vec::with_capacity(elements.len());
                for element in elements {
                    of.push(Self::of(element)?);
                }
                Self::list(of)
            }
            Value::Object(members) => {
                let mut of = Members::new();
                for (name, value) in members {
                    of.insert(name.into(), Self::of(value)?);
                }
                Self::object(of)
            }
        })
    }

    /// Returns the value as JSON. A number that JSON's own cannot hold exactly becomes a text.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Num(number) => json_number(*number),
            Self::Text(text) => Value::String(text.to_string()),
            Self::List(list) => Value::Array(list.of.iter().map(Self::json).collect()),
            Self::Object(object) => {
                Value::Object(object.of.iter().map(|(name, value)| (name.to_string(), value.json())).collect())
            }
        }
    }
}

fn exact(number: &Number) -> Option<Decimal> {
    let text = number.to_string();
    // A float beyond this holds no exact integer, so what the sender wrote is already lost.
    if number.is_f64() && number.as_f64().is_none_or(|float| float.abs() >= 9_007_199_254_740_992.0) {
        return None;
    }
    Decimal::from_str_exact(&text).or_else(|_| Decimal::from_scientific(&text)).ok()
}

fn json_number(number: Decimal) -> Value {
    let number = number.normalize();
    if let (Ok(whole), true) = (i64::try_from(number), number.is_integer()) {
        return whole.into();
    }
    let text = number.to_string();
    let float = text.parse::<f64>().ok().and_then(Number::from_f64);
    match float.filter(|float| exact(float) == Some(number)) {
        Some(float) if !number.is_integer() => Value::Number(float),
        _ => Value::String(text),
    }
}

/// Returns the levels of a value that contains these.
fn above<'a>(within: impl Iterator<Item = &'a Val>) -> u16 {
    let levels = 1 + within.map(Val::levels).max().unwrap_or(0);
    if levels > MAX_LEVELS {
        resume_unwind(Box::new(Spent));
    }
    levels
}

/// Makes an error. It never shows a value, because values may be about persons.
pub(super) fn wrong(why: &str) -> Error<Val> {
    Error::new(Val::Text(format!("{OURS}{why}").into()))
}

/// The beginning of our own errors. Those of jaq show values.
pub(super) const OURS: char = '\u{1}';

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Val {}

impl PartialOrd for Val {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of jq: by type, and objects by their names first.
impl Ord for Val {
    fn cmp(&self, other: &Self) -> Ordering {
        spend(1);
        match (self, other) {
            (Self::Num(left), Self::Num(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::List(left), Self::List(right)) => left.of.cmp(&right.of),
            (Self::Object(left), Self::Object(right)) => {
                left.of.keys().cmp(right.of.keys()).then_with(|| left.of.values().cmp(right.of.values()))
            }
            _ => self.order().cmp(&other.order()),
        }
    }
}

/// The value as text: a string as it is, anything else as JSON.
impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Num(number) => write!(f, "{}", number.normalize()),
            other => write!(f, "{}", other.json()),
        }
    }
}

impl From<bool> for Val {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<isize> for Val {
    fn from(number: isize) -> Self {
        Self::Num(Decimal::from(number))
    }
}

impl From<String> for Val {
    fn from(text: String) -> Self {
        Self::text(&text)
    }
}

impl From<Range<Val>> for Val {
    fn from(range: Range<Val>) -> Self {
        let ends = [("start", range.start), ("end", range.end)];
        Self::object(ends.into_iter().filter_map(|(name, end)| Some((name.into(), end?))).collect())
    }
}

impl FromIterator<Val> for Val {
    fn from_iter<T: IntoIterator<Item = Val>>(values: T) -> Self {
        Self::list(values.into_iter().inspect(|_| spend(1)).collect())
    }
}

type Operation = fn(Decimal, Decimal) -> Option<Decimal>;

/// Calculates, or fails where the result has no exact place in 28 digits or the types do not fit.
fn calculated(left: &Val, operation: Math, right: &Val, by: Operation) -> ValR<Val> {
    spend(1);
    match (left, right) {
        (Val::Num(left), Val::Num(right)) => {
            by(*left, *right).map(Val::Num).ok_or_else(|| wrong("the result is no number of 28 digits"))
        }
        (left, right) => Err(wrong(&format!("{} {} {} cannot be", left.kind(), operation.as_str(), right.kind()))),
    }
}

impl Add for Val {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Null, other) | (other, Self::Null) => Ok(other),
            (Self::Text(left), Self::Text(right)) => {
                spend(left.len() + right.len());
                Ok(Self::Text([&*left, &*right].concat().into()))
            }
            (Self::List(left), Self::List(right)) => {
                spend(left.of.len() + right.of.len());
                Ok(Self::list(left.of.iter().chain(&right.of).cloned().collect()))
            }
            (Self::Object(left), Self::Object(right)) => {
                spend(left.of.len() + right.of.len());
                let mut of = left.of.clone();
                of.extend(right.of.iter().map(|(name, value)| (name.clone(), value.clone())));
                Ok(Self::object(of))
            }
            (left, right) => calculated(&left, Math::Add, &right, Decimal::checked_add),
        }
    }
}

impl Sub for Val {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> ValR<Self> {
        match (&self, &other) {
            (Self::List(left), Self::List(right)) => {
                Ok(Self::list(left.of.iter().filter(|value| !right.of.contains(value)).cloned().collect()))
            }
            (left, right) => calculated(left, Math::Sub, right, Decimal::checked_sub),
        }
    }
}

impl Mul for Val {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> ValR<Self> {
        calculated(&self, Math::Mul, &other, Decimal::checked_mul)
    }
}

impl Div for Val {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> ValR<Self> {
        match (&self, &other) {
            (Self::Text(text), Self::Text(separator)) => {
                Ok(Self::list(text.split(&**separator).map(Self::text).collect()))
            }
            (left, right) => calculated(left, Math::Div, right, Decimal::checked_div),
        }
    }
}

impl Rem for Val {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> ValR<Self> {
        calculated(&self, Math::Rem, &other, Decimal::checked_rem)
    }
}

impl Neg for Val {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        Ok(Self::Num(-self.as_number()?))
    }
}

fn bounds(range: &Range<&Val>, length: usize) -> ValR<core::ops::Range<usize>, Val> {
    let end = |at: Option<&Val>, otherwise: usize| match at {
        None | Some(Val::Null) => Ok(otherwise),
        Some(number @ Val::Num(_)) => Ok(number.position(length).unwrap_or(0).min(length)),
        Some(other) => Err(wrong(&format!("{} is no position", other.kind()))),
    };
    let (from, to) = (end(range.start, 0)?, end(range.end, length)?);
    Ok(from..to.max(from))
}

impl ValT for Val {
    fn from_num(text: &str) -> ValR<Self> {
        let number = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        number.map(Self::Num).map_err(|_| wrong("a number has 28 digits at most"))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(members: I) -> ValR<Self> {
        let named = members.into_iter().map(|(name, value)| Ok((name.as_text()?.clone(), value)));
        Ok(Self::object(named.collect::<Result<_, Error<Self>>>()?))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Self::List(list) => {
                spend(list.of.len());
                let entries: Vec<_> = list.of.iter().cloned().enumerate().collect();
                Box::new(entries.into_iter().map(|(at, value)| Ok((Self::Num(Decimal::from(at)), value))))
            }
            Self::Object(object) => {
                spend(object.of.len());
                let entries: Vec<_> = object.of.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                Box::new(entries.into_iter().map(|(name, value)| Ok((Self::Text(name), value))))
            }
            other => Box::new(std::iter::once(Err(wrong(&format!("{} has no members", other.kind()))))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        Box::new(self.key_values().map(|entry| entry.map(|(_, value)| value)))
    }

    fn index(self, index: &Self) -> ValR<Self> {
        match (&self, index) {
            (Self::Null, _) => Ok(Self::Null),
            (Self::Object(object), Self::Text(name)) => Ok(object.of.get(name).cloned().unwrap_or(Self::Null)),
            (Self::List(list), Self::Num(_)) => {
                Ok(index.position(list.of.len()).and_then(|at| list.of.get(at)).cloned().unwrap_or(Self::Null))
            }
            (value, index) => Err(wrong(&format!("{} has nothing at a {}", value.kind(), index.kind()))),
        }
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        match &self {
            Self::Null => Ok(Self::Null),
            Self::List(list) => {
                let slice = list.of.get(bounds(&range, list.of.len())?).unwrap_or_default();
                spend(slice.len());
                Ok(Self::list(slice.to_vec()))
            }
            Self::Text(text) => {
                spend(text.len());
                let letters: Vec<char> = text.chars().collect();
                let slice = letters.get(bounds(&range, letters.len())?).unwrap_or_default();
                Ok(Self::text(&slice.iter().collect::<String>()))
            }
            other => Err(wrong(&format!("{} has no parts", other.kind()))),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match &self {
            Self::List(list) => {
                let of: Result<Vec<_>, _> = list.of.iter().cloned().flat_map(f).collect();
                Ok(Self::list(of?))
            }
            Self::Object(object) => {
                let members = object.of.iter().filter_map(|(name, value)| {
                    f(value.clone()).next().map(|value| Ok::<_, Exn<'a, Self>>((name.clone(), value?)))
                });
                Ok(Self::object(members.collect::<Result<_, _>>()?))
            }
            other => {
                let why = format!("{} has no members", other.kind());
                opt.fail(self, |_| Exn::from(wrong(&why)))
            }
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let before = match self.clone().index(index) {
            Ok(before) => before,
            Err(error) => return opt.fail(self, |_| Exn::from(error)),
        };
        let after = f(before).next().transpose()?;
        match (&self, index) {
            (Self::Null | Self::Object(_), Self::Text(name)) => {
                let mut of = if let Self::Object(object) = &self { object.of.clone() } else { Members::new() };
                spend(of.len());
                match after {
                    Some(value) => _ = of.insert(name.clone(), value),
                    None => _ = of.remove(name),
                }
                Ok(Self::object(of))
            }
            (Self::List(list), Self::Num(_)) => {
                let mut of = list.of.clone();
                spend(of.len());
                match (index.position(of.len()).filter(|at| *at < of.len()), after) {
                    (Some(at), Some(value)) => of[at] = value,
                    (Some(at), None) => _ = of.remove(at),
                    (None, _) => return opt.fail(self, |_| Exn::from(wrong("an array has no such position"))),
                }
                Ok(Self::list(of))
            }
            (value, index) => {
                let why = format!("{} has nothing at a {}", value.kind(), index.kind());
                opt.fail(self, |_| Exn::from(wrong(&why)))
            }
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let Self::List(list) = &self else {
            let why = format!("{} has no parts", self.kind());
            return opt.fail(self, |_| Exn::from(wrong(&why)));
        };
        let range = bounds(&range, list.of.len()).map_err(Exn::from)?;
        let slice = Self::list(list.of.get(range.clone()).unwrap_or_default().to_vec());
        let instead = f(slice).next().transpose()?.unwrap_or(Self::list(Vec::new()));
        let mut of = list.of.clone();
        spend(of.len());
        of.splice(range, instead.as_list().map_err(Exn::from)?.iter().cloned());
        Ok(Self::list(of))
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        match self {
            Self::Text(_) => self,
            other => Self::text(&other.to_string()),
        }
    }
}
