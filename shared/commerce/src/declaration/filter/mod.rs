//! Owns expressions: jq, by `jaq`, within limits. A declaration brings them, and bodies of strangers run through them.
//!
//! Numbers are decimal and exact, because some of them are money. An expression can neither read nor write anything but
//! values, defines no functions, and ends with its budget; no error of it shows a value.

mod functions;
mod value;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    thread,
};

use jaq_core::{
    Compiler, Ctx, DataT, Lut, Vars,
    data::HasLut,
    load::{
        Arena, File, Lexer, Loader,
        lex::{Tok, Token},
        parse::Def,
    },
};
use serde::Deserialize;
use serde_json::Value;

use self::value::{Val, allow, spend};

/// The longest expression, in bytes.
const MAX_BYTES: usize = 8_192;
/// The most words and signs of an expression.
const MAX_TOKENS: usize = 1_500;
/// The deepest brackets of an expression.
const MAX_BRACKETS: usize = 24;
/// The stack on which expressions are read and run, in bytes: both nest with the expression. An ordinary stack holds
/// some 200 levels.
const STACK: usize = 64 << 20;
/// The budget of one run: about one for each step, and for each value and byte that is made.
const STEPS: u64 = 2_000_000;

/// The data of a run: the table of the compiled expression, which costs a step each time that it is asked for.
struct Bounded;

#[derive(Clone)]
struct Table<'a>(&'a Lut<Bounded>);

impl DataT for Bounded {
    type V<'a> = Val;
    type Data<'a> = Table<'a>;
}

impl<'a> HasLut<'a, Bounded> for Table<'a> {
    fn lut(&self) -> &'a Lut<Bounded> {
        spend(1);
        self.0
    }
}

/// An expression, compiled once.
#[derive(Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String")]
pub struct Filter {
    text: Arc<str>,
    compiled: Arc<jaq_core::Filter<Bounded>>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

/// The reason for which an expression gave nothing. It never shows a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// The expression took too much time or memory.
    #[error("the expression takes too long, or too much memory")]
    Spent,
    /// The input or the output cannot be.
    #[error("{0}")]
    Failed(String),
}

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        check(&text)?;
        let compiled = with_stack(|| compile(&text)).unwrap_or_else(|| Err("cannot be compiled".to_owned()))?;
        Ok(Self { text: text.into(), compiled: compiled.into() })
    }
}

/// Runs something on a stack that is deep enough. Returns `None` where it unwound, or where there is no stack.
fn with_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run).ok()?;
        thread.join().ok()
    })
}

/// Checks what the parser could not stand: it nests with the text.
fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("an expression has {MAX_BYTES} bytes at most"));
    }
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    if deepest > MAX_BRACKETS {
        return Err(format!("an expression has {MAX_BRACKETS} brackets within each other at most"));
    }
    let tokens = Lexer::new(text).lex().map_err(|errors| no_jq(errors.first().map(|(_, rest)| *rest)))?;
    let mut left = MAX_TOKENS;
    let refused = forbidden(&tokens, &mut left);
    if left == 0 {
        return Err(format!("an expression has {MAX_TOKENS} words and signs at most"));
    }
    match refused {
        Some(word) => Err(format!("{word:?} cannot be used: expressions define and include nothing")),
        None => Ok(()),
    }
}

/// Returns a word that defines or includes something.
fn forbidden<'a>(tokens: &[Token<&'a str>], left: &mut usize) -> Option<&'a str> {
    for Token(text, token) in tokens {
        *left = left.saturating_sub(1);
        let found = match token {
            Tok::Block(inner) => forbidden(inner, left),
            Tok::Str(parts) => parts.iter().find_map(|part| match part {
                jaq_core::load::lex::StrPart::Term(term) => forbidden(std::slice::from_ref(term), left),
                _ => None,
            }),
            _ => matches!(*text, "def" | "import" | "include").then_some(*text),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn beginning(text: &str) -> String {
    text.chars().take(20).collect()
}

/// Says where a text is no expression; the end of the text is where something is missing.
fn no_jq(near: Option<&str>) -> String {
    match near.filter(|rest| !rest.is_empty()) {
        Some(rest) => format!("is no jq at {:?}", beginning(rest)),
        None => "is no jq: something is missing at its end".to_owned(),
    }
}

fn compile(text: &str) -> Result<jaq_core::Filter<Bounded>, String> {
    static DEFINITIONS: OnceLock<Vec<Def<&'static str>>> = OnceLock::new();
    let definitions = DEFINITIONS.get_or_init(functions::definitions);
    let arena = Arena::default();
    let modules = Loader::new(definitions.iter().cloned()).load(&arena, File { code: text, path: () });
    let modules = modules.map_err(|errors| {
        let near = errors.iter().find_map(|(_, error)| match error {
            jaq_core::load::Error::Parse(errors) => errors.first().map(|(_, rest)| *rest),
            jaq_core::load::Error::Lex(errors) => errors.first().map(|(_, rest)| *rest),
            jaq_core::load::Error::Io(_) => None,
        });
        no_jq(near)
    })?;
    let compiler = Compiler::default().with_funs(functions::natives()).with_global_vars(["$delivery"]);
    compiler.compile(modules).map_err(|errors| {
        let unknown = errors.first().and_then(|(_, errors)| errors.first());
        match unknown {
            Some((name, kind)) => format!("has an unknown {}: {}", kind.as_str(), beginning(name)),
            None => "cannot be compiled".to_owned(),
        }
    })
}

/// Returns what is told of an error: ours as it is, and nothing of one that may show a value.
fn told(error: &str) -> String {
    error.strip_prefix(value::OURS).unwrap_or("the expression does not fit a value").to_owned()
}

impl Filter {
    /// Returns the values that the expression makes of a JSON value, `most` at most, with `delivery` as `$delivery`.
    ///
    /// # Errors
    /// [`FilterError`], also for more values.
    pub fn run(&self, input: Value, delivery: Value, most: usize) -> Result<Vec<Value>, FilterError> {
        let run = || -> Result<Vec<Value>, FilterError> {
            allow(STEPS);
            let input = Val::of(input).map_err(FilterError::Failed)?;
            let delivery = Val::of(delivery).map_err(FilterError::Failed)?;
            let context = Ctx::<Bounded>::new(Table(&self.compiled.lut), Vars::new([delivery]));
            let mut values = Vec::new();
            for value in self.compiled.id.run((context, input)) {
                let value = value.map_err(|exception| match exception.get_err() {
                    Ok(error) => FilterError::Failed(told(&error.to_string())),
                    Err(_) => FilterError::Failed("the expression breaks off".to_owned()),
                })?;
                if values.len() == most {
                    return Err(FilterError::Failed(format!("the expression makes more than {most} values")));
                }
                values.push(value.json());
            }
            Ok(values)
        };
        with_stack(run).unwrap_or(Err(FilterError::Spent))
    }

    /// Returns the one value that the expression makes, or `None` for none and for `null`.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn one(&self, input: Value, delivery: Value) -> Result<Option<Value>, FilterError> {
        Ok(self.run(input, delivery, 1)?.pop().filter(|value| !value.is_null()))
    }
}

#[cfg(test)]
mod tests;
