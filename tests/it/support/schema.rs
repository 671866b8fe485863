//! The published schema, read from its text by another parser than the gateway's: what the generator may ask, and the
//! directives that the oracle counts by.

use std::collections::{BTreeMap, BTreeSet};

use graphql_parser::schema::{Definition, Directive, ObjectType, TypeDefinition, Value, parse_schema};

/// As a field or an argument has it; prints as GraphQL writes it.
pub(crate) type Type = graphql_parser::schema::Type<'static, String>;

/// Objects and their fields. Unions, interfaces and enums are not there yet: reading one stops the test.
#[derive(Debug)]
pub(crate) struct Schema {
    objects: BTreeMap<String, Object>,
    scalars: BTreeSet<String>,
    pub(crate) query: String,
}

/// An object type.
#[derive(Debug)]
pub(crate) struct Object {
    /// `@cost(weight:)`; none where it is not said.
    pub(crate) weight: Option<u64>,
    /// In the order of the text.
    pub(crate) fields: Vec<Field>,
}

/// A field of an object type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) list_size: Option<ListSize>,
}

/// An argument of a field.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

/// `@listSize`, by the names of the GraphQL Cost Directives Specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListSize {
    pub(crate) assumed: Option<u64>,
    pub(crate) slicing: Vec<String>,
    pub(crate) sized_fields: Vec<String>,
    pub(crate) require_one: bool,
}

impl Schema {
    /// What is committed.
    pub(crate) fn committed() -> Self {
        Self::read(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap())
    }

    pub(crate) fn read(sdl: &str) -> Self {
        let document = parse_schema::<String>(sdl).unwrap().into_static();
        let mut schema = Self { objects: BTreeMap::new(), scalars: BTreeSet::new(), query: "Query".to_owned() };
        schema.scalars.extend(["Int", "Float", "String", "Boolean", "ID"].map(str::to_owned));
        for definition in document.definitions {
            match definition {
                Definition::TypeDefinition(TypeDefinition::Object(object)) => {
                    schema.objects.insert(object.name.clone(), Object::of(object));
                }
                Definition::TypeDefinition(TypeDefinition::Scalar(scalar)) => {
                    schema.scalars.insert(scalar.name);
                }
                // Values too, as far as answers go.
                Definition::TypeDefinition(TypeDefinition::Enum(kind)) => _ = schema.scalars.insert(kind.name),
                Definition::TypeDefinition(TypeDefinition::InputObject(kind)) => _ = schema.scalars.insert(kind.name),
                Definition::SchemaDefinition(definition) => schema.query = definition.query.unwrap(),
                Definition::DirectiveDefinition(_) => {}
                other => panic!("the oracle does not know what to make of {other:?}: teach it"),
            }
        }
        schema
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = (&str, &Object)> {
        self.objects.iter().map(|(name, object)| (name.as_str(), object))
    }

    #[track_caller]
    pub(crate) fn object(&self, name: &str) -> &Object {
        self.objects.get(name).unwrap_or_else(|| panic!("{name} is no object type of the schema"))
    }

    #[track_caller]
    pub(crate) fn field(&self, object: &str, name: &str) -> &Field {
        let found = self.object(object).fields.iter().find(|field| field.name == name);
        found.unwrap_or_else(|| panic!("{object} has no field {name}"))
    }

    /// Whether a value of it has fields of its own.
    pub(crate) fn is_object(&self, name: &str) -> bool {
        assert!(self.objects.contains_key(name) || self.scalars.contains(name), "{name} is not in the schema");
        self.objects.contains_key(name)
    }
}

impl Object {
    fn of(object: ObjectType<'static, String>) -> Self {
        let weight = directive(&object.directives, "cost").map(|cost| match argument(cost, "weight") {
            Some(Value::String(weight)) => weight.parse().unwrap(),
            other => panic!("@cost of {} has the weight {other:?}", object.name),
        });
        let fields = object.fields.into_iter().map(|field| Field {
            list_size: directive(&field.directives, "listSize").map(ListSize::of),
            name: field.name,
            kind: field.field_type,
            arguments: field
                .arguments
                .into_iter()
                .map(|argument| Argument { name: argument.name, kind: argument.value_type })
                .collect(),
        });
        Self { weight, fields: fields.collect() }
    }
}

impl ListSize {
    fn of(directive: &Directive<'static, String>) -> Self {
        let names = |name| match argument(directive, name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::List(names)) => names.iter().map(text).collect(),
            Some(name) => vec![text(name)],
        };
        Self {
            assumed: argument(directive, "assumedSize").map(|size| match size {
                Value::Int(size) => u64::try_from(size.as_i64().unwrap()).unwrap(),
                other => panic!("assumedSize is {other:?}"),
            }),
            slicing: names("slicingArguments"),
            sized_fields: names("sizedFields"),
            require_one: argument(directive, "requireOneSlicingArgument") != Some(&Value::Boolean(false)),
        }
    }
}

/// The type within lists and non-nulls.
pub(crate) fn named(kind: &Type) -> &str {
    match kind {
        Type::NamedType(name) => name,
        Type::ListType(inner) | Type::NonNullType(inner) => named(inner),
    }
}

/// Without the outermost `!`.
pub(crate) fn nullable(kind: &Type) -> &Type {
    match kind {
        Type::NonNullType(inner) => inner,
        other => other,
    }
}

pub(crate) fn is_list(kind: &Type) -> bool {
    matches!(nullable(kind), Type::ListType(_))
}

pub(crate) fn is_required(kind: &Type) -> bool {
    matches!(kind, Type::NonNullType(_))
}

fn directive<'a>(directives: &'a [Directive<'static, String>], name: &str) -> Option<&'a Directive<'static, String>> {
    directives.iter().find(|directive| directive.name == name)
}

fn argument<'a>(directive: &'a Directive<'static, String>, name: &str) -> Option<&'a Value<'static, String>> {
    directive.arguments.iter().find(|(argument, _)| argument == name).map(|(_, value)| value)
}

fn text(value: &Value<'static, String>) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => panic!("{other:?} is no string"),
    }
}
