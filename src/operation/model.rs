//! What the schema says about cost, read from its SDL: the one that partners read is the one that is applied.
//!
//! Directives as the GraphQL Cost Directives Specification has them; a unit is *type cost*. `@cost(weight)` on an object type is
//! what each of its objects counts. `@listSize` bounds a list: by a slicing argument (an Int's value, or, an extension of
//! ours, the length of a list), else by `assumedSize`; with `sizedFields` the bound is that of the named fields below.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ConstDirective, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Positioned, Value};

use crate::metering::{Deniable, Weighted};

/// The types of `__schema` and `__type`, which no SDL prints; their lists are bounded by averages over the schema.
const INTROSPECTION: &str = r#"
type __Schema {
  description: String  queryType: __Type!  mutationType: __Type  subscriptionType: __Type
  types: [__Type!]! @listSize(assumedSize: $types)  directives: [__Directive!]! @listSize(assumedSize: $directives)
}
type __Type {
  kind: __TypeKind!  name: String  description: String  specifiedByURL: String  isOneOf: Boolean  ofType: __Type
  fields(includeDeprecated: Boolean): [__Field!] @listSize(assumedSize: $fields)
  interfaces: [__Type!] @listSize(assumedSize: 1)  possibleTypes: [__Type!] @listSize(assumedSize: 1)
  enumValues(includeDeprecated: Boolean): [__EnumValue!] @listSize(assumedSize: $fields)
  inputFields(includeDeprecated: Boolean): [__InputValue!] @listSize(assumedSize: 1)
}
type __Field {
  name: String!  description: String  type: __Type!  isDeprecated: Boolean!  deprecationReason: String
  args(includeDeprecated: Boolean): [__InputValue!]! @listSize(assumedSize: 2)
}
type __InputValue {
  name: String!  description: String  type: __Type!  defaultValue: String  isDeprecated: Boolean!  deprecationReason: String
}
type __EnumValue { name: String!  description: String  isDeprecated: Boolean!  deprecationReason: String }
type __Directive {
  name: String!  description: String  isRepeatable: Boolean!  locations: [__DirectiveLocation!]! @listSize(assumedSize: 8)
  args(includeDeprecated: Boolean): [__InputValue!]! @listSize(assumedSize: 4)
}
enum __TypeKind { SCALAR OBJECT INTERFACE UNION ENUM INPUT_OBJECT LIST NON_NULL }
enum __DirectiveLocation { FIELD }
"#;

/// Object types and their fields, and the types that values can have.
pub(super) struct Model {
    objects: HashMap<Name, Object>,
    pub(super) inputs: HashMap<Name, Input>,
    query: Name,
}

/// An object type.
pub(super) struct Object {
    pub(super) name: Name,
    pub(super) weighted: Option<Weighted>,
    fields: HashMap<Name, Field>,
}

/// A field of an object type.
pub(super) struct Field {
    /// The object type that it leads to, if it does.
    pub(super) object: Option<Name>,
    pub(super) is_list: bool,
    pub(super) size: Option<ListSize>,
    pub(super) deniable: Option<Deniable>,
    /// Their types, and whether they have defaults.
    pub(super) arguments: HashMap<Name, (Type, bool)>,
}

/// `@listSize`.
pub(super) struct ListSize {
    pub(super) assumed: u64,
    pub(super) slicing: Vec<Name>,
    pub(super) sized_fields: Vec<Name>,
}

/// A type that a value can have, other than the scalars of the specification.
pub(super) enum Input {
    Scalar,
    Enum(Vec<Name>),
    Object(HashMap<Name, (Type, bool)>),
}

impl Model {
    /// Reads an SDL.
    ///
    /// # Errors
    ///
    /// A list without a bound, an object type without a weight, or a weighted type that is not known to plans.
    pub(super) fn read(sdl: &str) -> anyhow::Result<Self> {
        let own = parse_schema(sdl)?.definitions;
        let directives = own.iter().filter(|it| matches!(it, TypeSystemDefinition::Directive(_))).count();
        let (mut types, mut fields) = (0, 0);
        for definition in &own {
            if let TypeSystemDefinition::Type(definition) = definition {
                types += 1;
                if let TypeKind::Object(object) = &definition.node.kind {
                    fields += object.fields.len();
                }
            }
        }
        // Introspection lists itself, and the scalars of the specification, too.
        let introspection = INTROSPECTION
            .replace("$types", &(types + 15).to_string())
            .replace("$directives", &(directives + 3).to_string())
            .replace("$fields", &fields.div_ceil(usize::max(types, 1)).max(4).to_string());
        let mut model = Self { objects: HashMap::new(), inputs: HashMap::new(), query: Name::new("Query") };
        for definition in own.into_iter().chain(parse_schema(introspection)?.definitions) {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    if let Some(query) = schema.node.query {
                        model.query = query.node;
                    }
                }
                TypeSystemDefinition::Type(definition) => {
                    let (name, directives) = (definition.node.name.node, definition.node.directives);
                    model.define(name, &directives, definition.node.kind)?;
                }
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        model.link()?;
        Ok(model)
    }

    fn define(&mut self, name: Name, directives: &[Positioned<ConstDirective>], kind: TypeKind) -> anyhow::Result<()> {
        let object = match kind {
            TypeKind::Object(object) => object,
            TypeKind::Scalar => return self.input(name, Input::Scalar),
            TypeKind::Enum(it) => {
                return self.input(name, Input::Enum(it.values.into_iter().map(|it| it.node.value.node).collect()));
            }
            TypeKind::InputObject(it) => {
                let field = |it: Positioned<InputValueDefinition>| {
                    let it = it.node;
                    let optional = it.ty.node.nullable || it.default_value.is_some();
                    (it.name.node, (it.ty.node, optional))
                };
                return self.input(name, Input::Object(it.fields.into_iter().map(field).collect()));
            }
            TypeKind::Interface(_) | TypeKind::Union(_) => {
                anyhow::bail!("{name} is an interface or a union: what it costs is not defined")
            }
        };
        let introspective = name.starts_with("__");
        let weight: u32 = match argument(directives, "cost", "weight") {
            Some(Value::String(weight)) => weight.parse().with_context(|| format!("{name} has the weight \"{weight}\""))?,
            _ if introspective => 0,
            _ => anyhow::bail!("the object type {name} has no @cost(weight)"),
        };
        let weighted = Weighted::of_type(&name);
        let expected = weighted.map_or(0, |_| Weighted::UNITS);
        ensure!(weight == expected, "{name} has the weight {weight} in the schema, and {expected} in plans");
        let mut fields = HashMap::new();
        for field in object.fields {
            let (read, field) = (self.field(&name, &field.node)?, field.node.name.node);
            fields.insert(field, read);
        }
        self.objects.insert(name.clone(), Object { name, weighted, fields });
        Ok(())
    }

    fn input(&mut self, name: Name, input: Input) -> anyhow::Result<()> {
        self.inputs.insert(name, input);
        Ok(())
    }

    fn field(&self, of: &Name, field: &FieldDefinition) -> anyhow::Result<Field> {
        let name = &field.name.node;
        let (mut ty, mut is_list) = (&field.ty.node, false);
        let base = loop {
            match &ty.base {
                BaseType::Named(base) => break base.clone(),
                BaseType::List(item) => {
                    ensure!(!is_list, "{of}.{name} is a list of lists: what it costs is not defined");
                    (ty, is_list) = (item, true);
                }
            }
        };
        let names = |argument: Option<Value>| match argument {
            Some(Value::List(names)) => names
                .into_iter()
                .filter_map(|name| if let Value::String(name) = name { Some(Name::new(name)) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        let given = |name| argument(&field.directives, "listSize", name);
        let size = field.directives.iter().any(|it| it.node.name.node == "listSize").then(|| ListSize {
            assumed: match given("assumedSize") {
                Some(Value::Number(size)) => size.as_u64().unwrap_or(0),
                _ => 0,
            },
            slicing: names(given("slicingArguments")),
            sized_fields: names(given("sizedFields")),
        });
        let arguments = field.arguments.iter().map(|it| {
            let it = &it.node;
            (it.name.node.clone(), (it.ty.node.clone(), it.default_value.is_some()))
        });
        let arguments = arguments.collect();
        Ok(Field { object: Some(base), is_list, size, deniable: Deniable::of_field(of, name), arguments })
    }

    /// Once all types are known: what leads to a scalar leads to no object; and the root has its introspection fields.
    fn link(&mut self) -> anyhow::Result<()> {
        let objects: Vec<Name> = self.objects.keys().cloned().collect();
        let sized = |field: &Field| field.size.as_ref().map(|size| (field.object.clone(), size.sized_fields.clone()));
        let sized: Vec<_> = self.objects.values().flat_map(|object| object.fields.values().filter_map(sized)).collect();
        for object in self.objects.values() {
            for (name, _) in object.fields.iter().filter(|(_, field)| field.is_list && field.size.is_none()) {
                let from_above = sized.iter().any(|(of, fields)| of.as_ref() == Some(&object.name) && fields.contains(name));
                ensure!(from_above, "{}.{name} is a list, and nothing bounds it: it needs @listSize", object.name);
            }
        }
        for object in self.objects.values_mut() {
            for field in object.fields.values_mut() {
                field.object = field.object.take().filter(|name| objects.contains(name));
            }
        }
        let one = |object: &str| Field {
            object: Some(Name::new(object)),
            is_list: false,
            size: None,
            deniable: None,
            arguments: Type::new("String!").map(|ty| (Name::new("name"), (ty, false))).into_iter().collect(),
        };
        let query = self.objects.get_mut(&self.query).context("the SDL has no query type")?;
        query.fields.insert(Name::new("__schema"), one("__Schema"));
        query.fields.insert(Name::new("__type"), one("__Type"));
        Ok(())
    }

    /// The root.
    pub(super) fn query(&self) -> Option<&Object> {
        self.objects.get(&self.query)
    }

    /// The object type of a name.
    pub(super) fn object(&self, name: &Name) -> Option<&Object> {
        self.objects.get(name)
    }
}

impl Object {
    /// A field of it; none for `__typename` and what validation refuses.
    pub(super) fn field(&self, name: &Name) -> Option<&Field> {
        self.fields.get(name)
    }
}

fn argument(directives: &[Positioned<ConstDirective>], directive: &str, name: &str) -> Option<Value> {
    let directive = directives.iter().find(|it| it.node.name.node == directive)?;
    let (_, value) = directive.node.arguments.iter().find(|(it, _)| it.node == name)?;
    Some(value.node.clone())
}
