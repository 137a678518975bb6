//! Makes listed schemas of the schemas of a description. A listed schema has only what the API of
//! every model takes: no `$ref`, one type or `anyOf`, and arrays that say what is in them. The rest
//! is told in words.

use serde_json::Number;

use super::constants::{Additions, Constants, Index, Within, only_value};
use super::detail::Detail;
use super::document::{Document, Node, Span};
use super::listed::{DATE_TIME, Members, Others, Range, Schema, Text, Values, can_be_listed};
use super::shape::Shape;
use super::text::{sentences, tidy};
use super::wording;
use crate::sorted;

/// The most branches of one `anyOf`.
const MOST_BRANCHES: usize = 16;
/// Bounds that only say how wide a number is stored.
const WIDE: f64 = 2_147_483_646.0;
/// The most values of `enum` in one schema (OpenAI's API).
const MOST_CHOICES: usize = 1000;
/// About how many bytes one keyword takes besides its texts.
const KEYWORD_BYTES: usize = 16;
/// About how many bytes [`Schema::any`] takes.
const ANY_JSON_BYTES: usize = 300;

/// The schema needs more bytes than are left.
#[derive(Debug)]
pub(super) struct TooLarge;

/// A schema in its listed form.
struct Listed {
    schema: Schema,
    /// What is added to its values.
    constants: Option<Index>,
}

impl From<Schema> for Listed {
    fn from(schema: Schema) -> Self {
        Self {
            schema,
            constants: None,
        }
    }
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct At<'a> {
    /// The schemas around it. One that is met again within itself is a cycle.
    around: &'a [Around],
    /// How many levels may still be described.
    depth: usize,
    /// Whether constants are left out. They stay where it is unknown which branch applies.
    hides: bool,
}

/// A schema that has another within it.
#[derive(Clone, Copy)]
struct Around {
    span: Span,
    /// What is added to its values.
    constants: Option<Index>,
}

impl<'a> At<'a> {
    /// The schema around this place that `shape` is, too.
    fn again(self, shape: &Shape<'_>) -> Option<&'a Around> {
        let mut around = self.around.iter();
        around.find(|known| shape.through.contains(&known.span))
    }

    /// The schemas around what stands within `shape`, to whose values `constants` are added.
    fn within(self, shape: &Shape<'_>, constants: Option<Index>) -> Vec<Around> {
        let mut around = self.around.to_vec();
        around.extend(shape.through.iter().map(|span| Around {
            span: *span,
            constants,
        }));
        around
    }
}

/// Makes listed schemas of those of a description.
pub(super) struct Lister<'d> {
    pub(super) document: Document<'d>,
    detail: Detail,
    /// How many bytes are left.
    left: usize,
    /// How many values of `enum` are left.
    choices_left: usize,
}

impl<'d> Lister<'d> {
    /// One that lists in this detail, and about so many bytes at most.
    pub(super) fn new(document: Document<'d>, detail: Detail, most_bytes: usize) -> Self {
        Self {
            document,
            detail,
            left: most_bytes,
            choices_left: MOST_CHOICES,
        }
    }

    /// The listed form of the schema of an argument; anything is allowed where there is none.
    /// `description` takes the place of its own, unless it is empty.
    ///
    /// # Errors
    /// There are not enough bytes left.
    pub(super) fn argument(
        &mut self,
        schema: Option<Node<'d>>,
        description: &str,
    ) -> Result<Schema, TooLarge> {
        let mut shape = self.shape_of(schema);
        if !description.is_empty() {
            shape.description = Some(description.to_owned().into());
        }
        // `null` is an argument that was not given.
        shape.is_nullable = false;
        let listed = self.list(&shape, self.top(false), &mut Constants::default())?;
        Ok(listed.schema)
    }

    /// The listed form of the schema of a body, without the constants in it, which go to
    /// `constants`.
    ///
    /// # Errors
    /// There are not enough bytes left.
    pub(super) fn body(
        &mut self,
        mut shape: Shape<'d>,
        constants: &mut Constants,
    ) -> Result<Schema, TooLarge> {
        shape.is_nullable = false;
        let listed = self.list(&shape, self.top(true), constants)?;
        Ok(listed.schema)
    }

    pub(super) fn shape_of(&self, schema: Option<Node<'d>>) -> Shape<'d> {
        let shape = schema.map(|schema| Shape::of(self.document, schema));
        shape.unwrap_or_default()
    }

    fn top(&self, hides: bool) -> At<'static> {
        At {
            around: &[],
            depth: self.detail.depth,
            hides,
        }
    }

    /// The listed form of `shape`.
    fn list(
        &mut self,
        shape: &Shape<'d>,
        at: At<'_>,
        constants: &mut Constants,
    ) -> Result<Listed, TooLarge> {
        if is_deep(shape) {
            if let Some(known) = at.again(shape) {
                return Ok(Listed {
                    schema: self.cut(shape, "as described above")?,
                    constants: known.constants,
                });
            }
            if at.depth == 0 && !self.is_flat(shape) {
                let schema = self.cut(shape, "not described, to keep this short")?;
                return Ok(schema.into());
            }
        }
        if !shape.branches.is_empty() {
            return self.branches(shape, at, constants).map(Listed::from);
        }
        let index = at.hides.then(|| constants.reserve());
        let around = at.within(shape, index);
        let at = At {
            around: &around,
            ..at
        };
        let mut additions = Additions::default();
        let mut kinds = Vec::new();
        for kind in shape.kinds() {
            kinds.push(self.kind(kind, shape, at, constants, &mut additions)?);
        }
        if let Some(index) = index {
            constants.set(index, additions);
        }
        let description = wording::description(shape, self.detail);
        Ok(Listed {
            schema: self.one_of(kinds, &description)?,
            constants: index,
        })
    }

    /// Whether it is an array of single values, or a choice of such.
    fn is_flat(&self, shape: &Shape<'d>) -> bool {
        if shape.has_members() || has_described_members(shape) {
            return false;
        }
        let items = shape.items.iter();
        let mut within = items.chain(&shape.branches);
        within.all(|inner| !is_deep(&Shape::of(self.document, *inner)))
    }

    /// The listed form of a schema that stands within another.
    fn inner(
        &mut self,
        schema: Node<'d>,
        at: At<'_>,
        constants: &mut Constants,
    ) -> Result<Listed, TooLarge> {
        let shape = Shape::of(self.document, schema);
        let depth = at.depth.saturating_sub(1);
        self.list(&shape, At { depth, ..at }, constants)
    }

    /// The listed form of the items of an array. An array of objects is no deeper than an object.
    fn items(
        &mut self,
        schema: Node<'d>,
        at: At<'_>,
        constants: &mut Constants,
    ) -> Result<Listed, TooLarge> {
        let shape = Shape::of(self.document, schema);
        let is_array_again = shape.items.is_some();
        let depth = at.depth.saturating_sub(usize::from(is_array_again));
        self.list(&shape, At { depth, ..at }, constants)
    }

    /// The branches of `oneOf` or `anyOf`, each with what stands beside them.
    fn branches(
        &mut self,
        shape: &Shape<'d>,
        at: At<'_>,
        constants: &mut Constants,
    ) -> Result<Schema, TooLarge> {
        let mut base = shape.clone();
        let given = std::mem::take(&mut base.branches);
        let mut description = wording::description(&base, self.detail);
        if given.len() > MOST_BRANCHES {
            let more = given.len() - MOST_BRANCHES;
            let told = format!("Takes {more} more forms, which are not described.");
            description = sentences(&[description, told]);
        }
        base.description = None;
        base.default = None;
        base.is_nullable = false;
        base.name = None;
        // A branch that leads back here is a cycle, not a part that was gathered already.
        base.gathered.clear();
        let around = at.within(&base, None);
        base.through.clear();
        let at = At {
            around: &around,
            depth: at.depth.saturating_sub(1),
            hides: false,
        };
        let mut branches: Vec<Schema> = Vec::new();
        for branch in given.into_iter().take(MOST_BRANCHES) {
            let mut merged = base.clone();
            merged.add(self.document, branch);
            let is_null = merged.kinds.is_empty() && merged.is_nullable && !is_deep(&merged);
            if is_null {
                continue;
            }
            let listed = self.list(&merged, at, constants)?.schema;
            match listed.values {
                Values::AnyOf(nested) if listed.description.is_empty() => branches.extend(nested),
                _ => branches.push(listed),
            }
        }
        // Some branches differ only in details that are not listed.
        branches.dedup();
        self.one_of(branches, &description)
    }

    /// A value that matches one of `branches`; any value if there are none.
    fn one_of(&mut self, branches: Vec<Schema>, description: &str) -> Result<Schema, TooLarge> {
        if !description.is_empty() {
            self.take(description.len() + KEYWORD_BYTES)?;
        }
        if branches.is_empty() {
            self.take(ANY_JSON_BYTES)?;
        }
        let mut listed = Schema::either(branches);
        listed.describe(description);
        Ok(listed)
    }

    fn kind(
        &mut self,
        kind: &str,
        shape: &Shape<'d>,
        at: At<'_>,
        constants: &mut Constants,
        additions: &mut Additions,
    ) -> Result<Schema, TooLarge> {
        self.take(2 * KEYWORD_BYTES)?;
        let values = match kind {
            "object" => {
                self.take(2 * KEYWORD_BYTES)?;
                Values::Object(self.object(shape, at, constants, additions)?)
            }
            "array" => {
                let items = shape.items.filter(|items| items.json().starts_with('{'));
                let items = match items {
                    Some(items) => self.items(items, at, constants)?,
                    None => Schema::single_or_object().into(),
                };
                additions.items = items.constants;
                Values::Array(Box::new(items.schema))
            }
            "string" => Values::Text(self.text(shape)?),
            "boolean" => Values::Boolean,
            _ => Values::Number(Range {
                is_integer: kind == "integer",
                minimum: bound(shape.minimum),
                maximum: bound(shape.maximum),
            }),
        };
        Ok(values.into())
    }

    fn text(&mut self, shape: &Shape<'d>) -> Result<Text, TooLarge> {
        if let Some(choices) = wording::choices(shape, self.detail) {
            let left = self.choices_left.checked_sub(choices.len());
            self.choices_left = left.ok_or(TooLarge)?;
            self.take(choices.iter().map(|choice| choice.len() + 3).sum())?;
            return Ok(Text::OneOf(choices));
        }
        let is_date_time = shape.format.as_deref() == Some(DATE_TIME);
        Ok(if is_date_time {
            Text::DateTime
        } else {
            Text::Any
        })
    }

    fn object(
        &mut self,
        shape: &Shape<'d>,
        at: At<'_>,
        constants: &mut Constants,
        additions: &mut Additions,
    ) -> Result<Members, TooLarge> {
        let mut members = Members::default();
        for (name, property) in &shape.properties {
            let inner = Shape::of(self.document, *property);
            if inner.is_read_only {
                continue;
            }
            let mut is_required = shape.required.contains(name);
            if at.hides
                && is_required
                && let Some(value) = only_value(self.document, &inner)
            {
                self.take(name.len() + value.len())?;
                additions.members.push((name.clone().into_owned(), value));
                continue;
            }
            if !can_be_listed(name) {
                continue;
            }
            self.take(name.len() + KEYWORD_BYTES)?;
            let depth = at.depth.saturating_sub(1);
            let inner = self.list(&inner, At { depth, ..at }, constants)?;
            if let Some(schema) = inner.constants {
                let is_made =
                    is_required && !inner.schema.demands_members() && constants.has_members(schema);
                is_required &= !is_made;
                additions.within.push(Within {
                    name: name.clone().into_owned(),
                    schema,
                    is_made,
                });
            }
            if is_required {
                self.take(name.len() + 3)?;
                members.required.push(name.clone().into_owned());
            }
            members.add(name.clone().into_owned(), inner.schema);
        }
        members.others = match shape.additional {
            Some(additional) if additional.json().starts_with('{') => {
                let at = At { hides: false, ..at };
                let listed = self.inner(additional, at, constants)?;
                Others::Of(Box::new(listed.schema))
            }
            Some(additional) if additional.json() == "false" => Others::None,
            _ => Others::Any,
        };
        Ok(members)
    }

    /// What stands for a schema that is not described, and `why`.
    fn cut(&mut self, shape: &Shape<'d>, why: &str) -> Result<Schema, TooLarge> {
        let own = shape.description.as_deref().unwrap_or_default();
        let own = tidy(own, self.detail.words);
        let name = shape.name.as_deref().unwrap_or("what is in it");
        let description = format!("{own} ({name}: {why})");
        let listed = self.outline(shape).described(description.trim().to_owned());
        self.take(listed.length() + KEYWORD_BYTES)?;
        Ok(listed)
    }

    /// Only the types of its values, and of the items of arrays.
    fn outline(&self, shape: &Shape<'d>) -> Schema {
        let mut branches = Vec::new();
        for kind in self.kinds_of_all(shape) {
            let branch = match shape.items {
                Some(items) if kind == "array" => self.outline_of_array(items),
                _ => Schema::of_type(kind),
            };
            branches.push(branch);
        }
        Schema::either(branches)
    }

    fn outline_of_array(&self, items: Node<'d>) -> Schema {
        let items = Shape::of(self.document, items);
        let kinds = self.kinds_of_all(&items);
        if kinds.is_empty() {
            return Schema::array();
        }
        let branches = kinds.into_iter().map(Schema::of_type).collect();
        Schema::array_of(Schema::either(branches))
    }

    /// The types of its values, those of its branches among them; none where they are not known.
    fn kinds_of_all(&self, shape: &Shape<'d>) -> Vec<&'static str> {
        let mut kinds = shape.kinds();
        if !kinds.is_empty() {
            return kinds;
        }
        for branch in &shape.branches {
            let of_branch = Shape::of(self.document, *branch).kinds();
            if of_branch.is_empty() {
                return Vec::new();
            }
            kinds.extend(of_branch);
        }
        sorted::set(kinds).into_iter().collect()
    }

    fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }
}

/// Whether other schemas stand within it.
fn is_deep(shape: &Shape<'_>) -> bool {
    shape.has_members()
        || shape.items.is_some()
        || !shape.branches.is_empty()
        || has_described_members(shape)
}

/// Whether it says what the members are whose names it does not say.
fn has_described_members(shape: &Shape<'_>) -> bool {
    let additional = shape.additional;
    additional.is_some_and(|additional| additional.json().starts_with('{'))
}

/// `bound` as it is listed: an integer without a point. One that only says how wide a number is
/// stored is not.
fn bound(bound: Option<f64>) -> Option<Number> {
    let bound = bound.filter(|bound| bound.abs() < WIDE)?;
    serde_json::from_str(&bound.to_string()).ok()
}
