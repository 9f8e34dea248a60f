//! The query language of the platform's lists, with the documented filters: their operators, and the orders of each
//! list. `tests/cloudblue` compares it with the library that the platform filters with.

use std::{collections::BTreeMap, sync::LazyLock};

use commerce::timestamp::{Timestamp, parse_utc};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

/// The filters of each list [CloudBlue's OpenAPI document, version 37].
static FILTERS: LazyLock<BTreeMap<String, Vec<Filter>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../cloudblue/filters.json")).unwrap());

/// The largest and the default number of entries on a page.
const MAX_LIMIT: usize = 1000;
const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize)]
struct Filter {
    name: String,
    at: String,
    kind: Kind,
    lookups: Vec<String>,
    ordering: bool,
    #[serde(default)]
    choices: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Text,
    Time,
    Flag,
}

/// A page of a list.
pub struct Page<'a> {
    /// The entries of the page.
    pub shown: Vec<&'a Value>,
    /// The header `Content-Range`.
    pub range: String,
}

/// Answers a query of a list with at most `most` entries a page, or returns the error of the query.
pub fn list<'a>(
    path: &str,
    all: impl Iterator<Item = &'a Value>,
    query: &str,
    most: usize,
) -> Result<Page<'a>, String> {
    let filters = &FILTERS[path];
    // Signs of the language may be encoded too; a plus sign stands for itself.
    let query = format!("x={}", query.replace('+', "%2B").replace('&', "%26"));
    let query = form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned();
    let terms = Parser { rest: &query }.whole()?;
    let mut asked = Asked::default();
    for term in &terms {
        asked.check(term, filters)?;
    }
    let fits = |entry: &&Value| terms.iter().all(|term| term.fits(entry, filters));
    let mut found: Vec<&Value> = all.filter(fits).collect();
    if let Some(ordering) = asked.ordering {
        let keys: Vec<(&Filter, bool)> = ordering
            .iter()
            .map(|name| {
                let plain = name.trim_start_matches(['-', '+']);
                let filter = filters.iter().find(|filter| filter.name == plain && filter.ordering);
                filter.map(|filter| (filter, name.starts_with('-'))).ok_or(format!("Bad ordering filter: {plain}."))
            })
            .collect::<Result<_, _>>()?;
        // Entries with equal keys may have any order, but keep it.
        found.sort_by(|a, b| {
            let compared = keys.iter().map(|(filter, down)| {
                let compared = filter.of(a).cmp(&filter.of(b));
                if *down { compared.reverse() } else { compared }
            });
            compared.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
    }
    let count = found.len();
    let number = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
    let limit = number(asked.limit).map_or(DEFAULT_LIMIT, |limit| limit.min(MAX_LIMIT)).min(most);
    // A limit of 0 asks only for the count.
    let offset = number(asked.offset).filter(|_| limit > 0).unwrap_or_default();
    let shown: Vec<&Value> = found.into_iter().skip(offset).take(limit).collect();
    let range = format!("items {offset}-{}/{count}", offset + shown.len().saturating_sub(1));
    Ok(Page { shown, range })
}

/// A value in the form in which it is compared.
#[derive(PartialEq, PartialOrd, Eq, Ord, Debug)]
enum Key {
    Text(String),
    Time(Timestamp),
    Flag(bool),
}

impl Filter {
    fn of(&self, entry: &Value) -> Option<Key> {
        let value = self.at.split('.').fold(entry, |value, name| &value[name]);
        match self.kind {
            Kind::Text => value.as_str().map(|text| Key::Text(text.to_owned())),
            Kind::Time => value.as_str().and_then(parse_utc).map(|at| Key::Time(at.into())),
            Kind::Flag => value.as_bool().map(Key::Flag),
        }
    }

    /// Reads a value of a query; returns `None` if it is wrong.
    fn read(&self, text: &str) -> Option<Key> {
        let text = unquoted(text);
        match self.kind {
            Kind::Time => parse_utc(text).map(|at| Key::Time(at.into())),
            Kind::Flag => text.parse().ok().map(Key::Flag),
            Kind::Text if text == "empty()" => Some(Key::Text(String::new())),
            Kind::Text => {
                let known = self.choices.is_empty() || self.choices.iter().any(|choice| choice == text);
                known.then(|| Key::Text(text.to_owned()))
            }
        }
    }

    fn compare(&self, entry: &Value, operator: &str, text: &str) -> bool {
        let own = self.of(entry);
        if text == "null()" {
            return own.is_none() != (operator == "ne");
        }
        if matches!(operator, "like" | "ilike") {
            let Some(Key::Text(own)) = own else { return false };
            let (own, text) = match operator {
                "like" => (own, unquoted(text).to_owned()),
                _ => (own.to_lowercase(), unquoted(text).to_lowercase()),
            };
            return like(&own, &text);
        }
        let Some(given) = self.read(text) else { return false };
        match operator {
            "eq" => own == Some(given),
            "ne" => own != Some(given),
            "gt" => own.is_some_and(|own| own > given),
            "ge" => own.is_some_and(|own| own >= given),
            "lt" => own.is_some_and(|own| own < given),
            _ => own.is_some_and(|own| own <= given),
        }
    }
}

fn unquoted(text: &str) -> &str {
    let quoted = |mark: char| text.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
    quoted('"').or(quoted('\'')).unwrap_or(text)
}

fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[derive(Debug)]
enum Term {
    And(Vec<Term>),
    Or(Vec<Term>),
    Not(Box<Term>),
    Compare(String, String, String),
    List(String, String, Vec<String>),
    Ordering(Vec<String>),
    Select,
}

#[derive(Default)]
struct Asked {
    ordering: Option<Vec<String>>,
    limit: Option<String>,
    offset: Option<String>,
}

const WRONG: &str = "Bad filter query.";

impl Asked {
    fn check(&mut self, term: &Term, filters: &[Filter]) -> Result<(), String> {
        match term {
            Term::And(terms) | Term::Or(terms) => terms.iter().try_for_each(|term| self.check(term, filters)),
            Term::Not(term) => self.check(term, filters),
            Term::Compare(operator, name, value) if name == "limit" || name == "offset" => {
                let own = if name == "limit" { &mut self.limit } else { &mut self.offset };
                if operator != "eq" || own.replace(value.clone()).is_some() {
                    return Err("Limit and offset are set incorrectly.".into());
                }
                Ok(())
            }
            Term::Compare(operator, name, value) => check(filters, operator, name, value),
            Term::List(operator, name, values) => values.iter().try_for_each(|value| {
                let Some(filter) = filters.iter().find(|filter| filter.name == *name) else { return Ok(()) };
                if !filter.lookups.iter().any(|lookup| lookup == operator) {
                    return Err(format!("RQL Lookup error: {name}, {operator}."));
                }
                check(filters, if operator == "in" { "eq" } else { "ne" }, name, value)
            }),
            Term::Ordering(_) if self.ordering.is_some() => {
                Err("Bad ordering filter: query can contain only one ordering operation.".into())
            }
            Term::Ordering(names) => {
                self.ordering = Some(names.clone());
                Ok(())
            }
            Term::Select => Ok(()),
        }
    }
}

/// Checks a comparison as the platform does: an unknown filter is passed over, a known one is checked strictly.
fn check(filters: &[Filter], operator: &str, name: &str, value: &str) -> Result<(), String> {
    let Some(filter) = filters.iter().find(|filter| filter.name == name) else { return Ok(()) };
    let lookup = if value == "null()" { "null" } else { operator };
    if !filter.lookups.iter().any(|known| known == lookup) {
        return Err(format!("RQL Lookup error: {name}, {lookup}."));
    }
    if lookup != "null" && !matches!(operator, "like" | "ilike") && filter.read(value).is_none() {
        return Err(format!("RQL Value error: {name}."));
    }
    Ok(())
}

impl Term {
    fn fits(&self, entry: &Value, filters: &[Filter]) -> bool {
        let own = |name: &String| filters.iter().find(|filter| filter.name == *name);
        match self {
            Self::And(terms) => terms.iter().all(|term| term.fits(entry, filters)),
            Self::Or(terms) => terms.iter().any(|term| term.fits(entry, filters)),
            Self::Not(term) => !term.fits(entry, filters),
            Self::Compare(operator, name, value) => {
                own(name).is_none_or(|filter| filter.compare(entry, operator, value))
            }
            Self::List(operator, name, values) => own(name).is_none_or(|filter| match operator.as_str() {
                "in" => values.iter().any(|value| filter.compare(entry, "eq", value)),
                _ => values.iter().all(|value| filter.compare(entry, "ne", value)),
            }),
            Self::Ordering(_) | Self::Select => true,
        }
    }
}

struct Parser<'q> {
    rest: &'q str,
}

impl Parser<'_> {
    fn whole(mut self) -> Result<Vec<Term>, String> {
        let mut terms = Vec::new();
        if self.rest.is_empty() {
            return Ok(terms);
        }
        loop {
            terms.push(self.term()?);
            if !self.take('&') && !self.take(',') {
                break;
            }
        }
        if self.rest.is_empty() { Ok(terms) } else { Err(WRONG.into()) }
    }

    fn take(&mut self, sign: char) -> bool {
        let after = self.rest.strip_prefix(sign);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn need(&mut self, sign: char) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(WRONG.into()) }
    }

    fn term(&mut self) -> Result<Term, String> {
        if self.take('(') {
            let mut terms = vec![self.term()?];
            let sign = ['&', '|', ';', ','].into_iter().find(|sign| self.rest.starts_with(*sign));
            while sign.is_some_and(|sign| self.take(sign)) {
                terms.push(self.term()?);
            }
            self.need(')')?;
            return Ok(if matches!(sign, Some('|' | ';')) { Term::Or(terms) } else { Term::And(terms) });
        }
        let name = self.name()?;
        if self.take('=') {
            let (operator, value) = match ["eq", "ne", "gt", "ge", "lt", "le"]
                .iter()
                .find(|operator| self.rest.strip_prefix(**operator).is_some_and(|rest| rest.starts_with('=')))
            {
                Some(operator) => {
                    self.rest = &self.rest[operator.len() + 1..];
                    ((*operator).to_owned(), self.value()?)
                }
                None => ("eq".to_owned(), self.value()?),
            };
            return Ok(Term::Compare(operator, name, value));
        }
        self.need('(')?;
        let term = match name.as_str() {
            "and" | "or" => {
                let mut terms = vec![self.term()?];
                while self.take(',') {
                    terms.push(self.term()?);
                }
                if name == "and" { Term::And(terms) } else { Term::Or(terms) }
            }
            "not" => Term::Not(Box::new(self.term()?)),
            "in" | "out" => {
                let of = self.name()?;
                self.need(',')?;
                self.need('(')?;
                let mut values = vec![self.value()?];
                while self.take(',') {
                    values.push(self.value()?);
                }
                self.need(')')?;
                Term::List(name, of, values)
            }
            "ordering" | "select" => {
                let mut names = Vec::new();
                while !self.rest.starts_with(')') {
                    let sign = if self.take('-') { "-" } else { "" };
                    self.take('+');
                    names.push(format!("{sign}{}", self.name()?));
                    if !self.take(',') {
                        break;
                    }
                }
                if name == "select" { Term::Select } else { Term::Ordering(names) }
            }
            "eq" | "ne" | "gt" | "ge" | "lt" | "le" | "like" | "ilike" => {
                let of = self.name()?;
                self.need(',')?;
                Term::Compare(name, of, self.value()?)
            }
            _ => return Err(WRONG.into()),
        };
        self.need(')')?;
        Ok(term)
    }

    fn name(&mut self) -> Result<String, String> {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(WRONG.into());
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<String, String> {
        for whole in ["null()", "empty()"] {
            if let Some(rest) = self.rest.strip_prefix(whole) {
                self.rest = rest;
                return Ok(whole.to_owned());
            }
        }
        if let Some(mark) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let end = self.rest[1..].find(mark).ok_or(WRONG)?;
            let (value, rest) = self.rest.split_at(end + 2);
            self.rest = rest;
            return Ok(value.to_owned());
        }
        let first = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '+' | '\\');
        let part = |c: char| first(c) || c.is_whitespace() || matches!(c, '.' | ':' | '@');
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        if !value.starts_with(first) {
            return Err(WRONG.into());
        }
        self.rest = rest;
        Ok(value.to_owned())
    }
}
