//! A small GraphQL server: reads a query with its fragments, computes what it costs, and selects its fields from
//! objects that are kept as JSON. A list whose selection has `nodes` is a connection, with cursors.
//!
//! The cost follows Shopify's documentation: 1 point for an object, 0 for a scalar, 2 for a connection and the cost of
//! each of its nodes, and 10 for a mutation. The requested cost counts as many nodes as are asked for, the actual one
//! as many as there are. A list without an argument costs as much as one object, which is not documented.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A selected field, or a fragment.
#[derive(Clone, Debug)]
enum Selection {
    Field { alias: String, name: String, arguments: Map<String, Value>, inner: Vec<Selection> },
    Spread(String),
    Inline(String, Vec<Selection>),
}

/// A query or a mutation, with its fragments.
#[derive(Clone, Debug)]
pub struct Document {
    is_mutation: bool,
    selections: Vec<Selection>,
    fragments: BTreeMap<String, (String, Vec<Selection>)>,
}

/// A field at the root, to be resolved.
pub struct Root<'d> {
    /// The name in the answer.
    pub alias: &'d str,
    /// The name of the field.
    pub name: &'d str,
    /// The arguments.
    pub arguments: &'d Map<String, Value>,
    inner: &'d [Selection],
}

struct Reader<'t> {
    tokens: Vec<&'t str>,
    at: usize,
    variables: &'t Map<String, Value>,
}

fn tokens(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            '.' => 3,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start_matches([' ', '\n', ',']);
    }
    found
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<&'t str> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    fn peek(&self) -> Option<&'t str> {
        self.tokens.get(self.at).copied()
    }

    fn takes(&mut self, token: &str) -> bool {
        let is = self.peek() == Some(token);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self) -> Option<Value> {
        let token = self.next()?;
        match token {
            "$" => {
                let name = self.next()?;
                Some(self.variables.get(name).cloned().unwrap_or_default())
            }
            "[" => {
                let mut all = Vec::new();
                while !self.takes("]") {
                    all.push(self.value()?);
                }
                Some(all.into())
            }
            _ if token.starts_with('"') => Some(token.trim_matches('"').into()),
            _ => Some(token.parse::<i64>().map_or_else(|_| token.into(), Value::from)),
        }
    }

    fn arguments(&mut self) -> Option<Map<String, Value>> {
        let mut arguments = Map::new();
        if self.takes("(") {
            while !self.takes(")") {
                let name = self.next()?.to_owned();
                self.takes(":").then_some(())?;
                arguments.insert(name, self.value()?);
            }
        }
        Some(arguments)
    }

    fn selections(&mut self) -> Option<Vec<Selection>> {
        self.takes("{").then_some(())?;
        let mut found = Vec::new();
        while !self.takes("}") {
            if self.takes("...") {
                found.push(match self.next()? {
                    "on" => Selection::Inline(self.next()?.to_owned(), self.selections()?),
                    name => Selection::Spread(name.to_owned()),
                });
                continue;
            }
            let alias = self.next()?.to_owned();
            let name = if self.takes(":") { self.next()?.to_owned() } else { alias.clone() };
            let arguments = self.arguments()?;
            let inner = if self.peek() == Some("{") { self.selections()? } else { Vec::new() };
            found.push(Selection::Field { alias, name, arguments, inner });
        }
        Some(found)
    }
}

impl Document {
    /// Reads a query with its variables. Returns `None` for what is no query.
    pub fn read(text: &str, variables: &Map<String, Value>) -> Option<Self> {
        let mut reader = Reader { tokens: tokens(text), at: 0, variables };
        let is_mutation = match reader.next()? {
            "query" => false,
            "mutation" => true,
            _ => return None,
        };
        // The name and the types of the variables, which were checked against the schema elsewhere.
        while reader.peek()? != "{" {
            reader.next();
        }
        let selections = reader.selections()?;
        let mut fragments = BTreeMap::new();
        while reader.takes("fragment") {
            let name = reader.next()?.to_owned();
            reader.takes("on").then_some(())?;
            let on = reader.next()?.to_owned();
            fragments.insert(name, (on, reader.selections()?));
        }
        reader.peek().is_none().then_some(Self { is_mutation, selections, fragments })
    }

    /// Returns the fields at the root.
    pub fn roots(&self) -> Vec<Root<'_>> {
        let mut roots = Vec::new();
        for selection in &self.selections {
            if let Selection::Field { alias, name, arguments, inner } = selection {
                roots.push(Root { alias, name, arguments, inner });
            }
        }
        roots
    }

    /// Returns the fields that a selection has for an object of a type, or for one of any type.
    fn fields<'d>(&'d self, selections: &'d [Selection], of: Option<&str>) -> Vec<&'d Selection> {
        let fits = |on: &str| of.is_none_or(|of| on == of);
        selections
            .iter()
            .flat_map(|selection| match selection {
                Selection::Field { .. } => vec![selection],
                Selection::Spread(name) => match self.fragments.get(name) {
                    Some((on, inner)) if fits(on) => self.fields(inner, of),
                    _ => Vec::new(),
                },
                Selection::Inline(on, inner) if fits(on) => self.fields(inner, of),
                Selection::Inline(..) => Vec::new(),
            })
            .collect()
    }

    fn nodes<'d>(&'d self, inner: &'d [Selection]) -> Option<&'d [Selection]> {
        self.fields(inner, None).into_iter().find_map(|selection| match selection {
            Selection::Field { name, inner, .. } if name == "nodes" => Some(inner.as_slice()),
            _ => None,
        })
    }

    /// Returns the requested cost.
    pub fn cost(&self) -> f64 {
        self.base() + self.requested(&self.selections)
    }

    /// Returns the cost beside that of the fields.
    pub fn base(&self) -> f64 {
        if self.is_mutation { 10.0 } else { 0.0 }
    }

    fn requested(&self, selections: &[Selection]) -> f64 {
        let fields = self.fields(selections, None).into_iter();
        fields.map(|selection| self.of_field(selection)).sum()
    }

    fn of_field(&self, selection: &Selection) -> f64 {
        let Selection::Field { arguments, inner, .. } = selection else { return 0.0 };
        if inner.is_empty() {
            return 0.0;
        }
        let ids = arguments.get("ids").and_then(Value::as_array).map(|ids| ids.len() as f64);
        let first = arguments.get("first").and_then(Value::as_f64).or(ids);
        match (first, self.nodes(inner)) {
            (Some(first), Some(nodes)) => 2.0 + first * (1.0 + self.requested(nodes)),
            (Some(first), None) => first * (1.0 + self.requested(inner)),
            (None, _) => 1.0 + self.requested(inner),
        }
    }

    /// Selects the fields of a resolved root, and no more entries of a list than `most`. Returns them, and their actual
    /// cost.
    ///
    /// # Errors
    /// Returns the name of a field that an object does not have.
    pub fn select(&self, root: &Root<'_>, value: &Value, most: u64) -> Result<(Value, f64), String> {
        let mut arguments = root.arguments.clone();
        if let Some(first) = arguments.get("first").and_then(Value::as_u64) {
            arguments.insert("first".into(), first.min(most).into());
        }
        self.selected(value, &arguments, root.inner)
    }

    fn selected(
        &self,
        value: &Value,
        arguments: &Map<String, Value>,
        inner: &[Selection],
    ) -> Result<(Value, f64), String> {
        match value {
            Value::Array(all) if self.nodes(inner).is_some() => self.connection(all, arguments, inner),
            Value::Array(all) => {
                let first = arguments.get("first").and_then(Value::as_u64);
                let mut points = if first.is_none() && !inner.is_empty() { 1.0 } else { 0.0 };
                let mut found = Vec::new();
                for one in all.iter().take(first.map_or(usize::MAX, |first| first as usize)) {
                    let (one, cost) = self.selected(one, &Map::new(), inner)?;
                    points += if first.is_some() || arguments.contains_key("ids") { cost } else { 0.0 };
                    found.push(one);
                }
                Ok((found.into(), points))
            }
            Value::Object(members) if !inner.is_empty() => {
                let (mut found, mut points) = (Map::new(), 1.0);
                for selection in self.fields(inner, members.get("__typename").and_then(Value::as_str)) {
                    let Selection::Field { alias, name, arguments, inner } = selection else { continue };
                    let value = members.get(name).ok_or_else(|| name.clone())?;
                    let (value, cost) = self.selected(value, arguments, inner)?;
                    points += cost;
                    found.insert(alias.clone(), value);
                }
                Ok((found.into(), points))
            }
            scalar => Ok((scalar.clone(), 0.0)),
        }
    }

    /// Returns the number of lists in a query, and how deep they are nested below the first.
    pub fn lists(&self) -> (usize, usize) {
        let (count, levels) = self.lists_in(&self.selections);
        (count, levels.saturating_sub(1))
    }

    fn lists_in(&self, selections: &[Selection]) -> (usize, usize) {
        let (mut count, mut levels) = (0, 0);
        for selection in self.fields(selections, None) {
            let Selection::Field { inner, .. } = selection else { continue };
            let is_list = usize::from(self.nodes(inner).is_some());
            let below = self.lists_in(inner);
            count += is_list + below.0;
            levels = levels.max(is_list + below.1);
        }
        (count, levels)
    }

    /// Returns the lines that a bulk operation writes for an entry of a list at the root: the entry without its lists,
    /// and then each entry of those with the id of the object that it belongs to.
    ///
    /// # Errors
    /// Returns the name of a field that an object does not have.
    pub fn lines(&self, root: &Root<'_>, entry: &Value) -> Result<Vec<Value>, String> {
        let mut lines = Vec::new();
        self.lines_of(entry, None, self.nodes(root.inner).ok_or("nodes")?, &mut lines)?;
        Ok(lines)
    }

    fn lines_of(
        &self,
        value: &Value,
        parent: Option<&str>,
        inner: &[Selection],
        lines: &mut Vec<Value>,
    ) -> Result<(), String> {
        let mut lists = Vec::new();
        let mut line = self.without_lists(value, inner, parent.unwrap_or_default(), &mut lists)?;
        if let Some(parent) = parent {
            line["__parentId"] = parent.into();
        }
        lines.push(line);
        for (owner, entries, nodes) in lists {
            for entry in entries {
                self.lines_of(entry, Some(owner), nodes, lines)?;
            }
        }
        Ok(())
    }

    /// Selects fields without the lists among them, which are added to `lists` with their owner and their fields.
    fn without_lists<'a>(
        &'a self,
        value: &'a Value,
        inner: &'a [Selection],
        owner: &'a str,
        lists: &mut Vec<(&'a str, &'a [Value], &'a [Selection])>,
    ) -> Result<Value, String> {
        match value {
            Value::Array(all) => all.iter().map(|one| self.without_lists(one, inner, owner, lists)).collect(),
            Value::Object(members) if !inner.is_empty() => {
                let owner = members.get("id").and_then(Value::as_str).unwrap_or(owner);
                let mut found = Map::new();
                for selection in self.fields(inner, members.get("__typename").and_then(Value::as_str)) {
                    let Selection::Field { alias, name, inner, .. } = selection else { continue };
                    match (members.get(name).ok_or_else(|| name.clone())?, self.nodes(inner)) {
                        (Value::Array(entries), Some(nodes)) => lists.push((owner, entries, nodes)),
                        (value, _) => {
                            found.insert(alias.clone(), self.without_lists(value, inner, owner, lists)?);
                        }
                    }
                }
                Ok(found.into())
            }
            scalar => Ok(scalar.clone()),
        }
    }

    fn connection(
        &self,
        all: &[Value],
        arguments: &Map<String, Value>,
        inner: &[Selection],
    ) -> Result<(Value, f64), String> {
        let first = arguments.get("first").and_then(Value::as_u64).ok_or("first")? as usize;
        let after = arguments.get("after").and_then(Value::as_str);
        // A cursor names the entry that it comes after. The lists at the root begin after it already.
        let id = |one: &Value| one["__cursor"].as_str().or(one["id"].as_str()).unwrap_or_default().to_owned();
        let skipped = match after {
            None => 0,
            Some(after) => all.iter().position(|one| id(one) == after).map_or(0, |place| place + 1),
        };
        let shown: Vec<_> = all.iter().skip(skipped).take(first).collect();
        let page = json!({
            "hasNextPage": skipped + shown.len() < all.len(), "endCursor": shown.last().map(|one| id(one)),
            "hasPreviousPage": skipped > 0,
        });
        let (mut found, mut points) = (Map::new(), 2.0);
        for selection in self.fields(inner, None) {
            let Selection::Field { alias, name, inner, .. } = selection else { continue };
            let value = match name.as_str() {
                "nodes" => {
                    let mut nodes = Vec::new();
                    for one in &shown {
                        let (one, cost) = self.selected(one, &Map::new(), inner)?;
                        points += cost;
                        nodes.push(one);
                    }
                    nodes.into()
                }
                "pageInfo" => self.selected(&page, &Map::new(), inner)?.0,
                other => return Err(other.to_owned()),
            };
            found.insert(alias.clone(), value);
        }
        Ok((found.into(), points))
    }
}
