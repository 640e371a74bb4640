//! The page's types of the studio are made of Rust's: `web/src/engine/studio.ts` is current.

use std::collections::BTreeMap;
use trimtab_studio::failure::Failure;
use trimtab_studio::session::LoadedModel;
use trimtab_studio::verbs::{signatures, visit_types};
use trimtab_testing::files::repository;
use ts_rs::{Config, TS, TypeVisitor};

/// Declarations by name.
struct Declarations<'a> {
    config: &'a Config,
    found: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if T::output_path().is_none() {
            // One of the language's own; what it is made of may be ours.
            T::visit_generics(self);
            return;
        }
        let name = T::ident(self.config);
        if self.found.contains_key(&name) {
            return;
        }
        let docs = T::docs().unwrap_or_default();
        let declaration = format!("{docs}export {}", T::decl(self.config));
        self.found.insert(name, declaration);
        T::visit_dependencies(self);
    }
}

fn docs(lines: &[&str]) -> String {
    format!("  /**{} */\n", lines.join("\n   *"))
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        camel + &word[..1].to_uppercase() + &word[1..]
    })
}

fn generated() -> String {
    let config = Config::new().with_large_int("number");
    let mut declarations = Declarations {
        config: &config,
        found: BTreeMap::new(),
    };
    visit_types(&mut declarations);
    declarations.visit::<Failure>();
    declarations.visit::<LoadedModel>();
    let mut text = String::from(
        "/**\n * The studio's verbs and the types of what they take, tell and give back. Made of crates/studio by\n \
         * `TRIMTAB_WRITE=1 cargo test --release -p trimtab-studio --test it typescript`: not to be edited.\n */\n\n",
    );
    for declaration in declarations.found.values() {
        text += declaration;
        text += "\n\n";
    }
    text += "export interface StudioVerbs {\n";
    let mut table = String::from(
        "/** How many things a verb takes, whether it tells events, and whether it needs no model and waits for no other verb. */\n\
         export const STUDIO_VERBS = {\n",
    );
    for verb in signatures(&config) {
        let mut inputs: Vec<String> = verb
            .inputs
            .iter()
            .map(|(name, kind)| match kind.strip_suffix(" | null") {
                Some(kind) => format!("{}?: {kind}", camel(name)),
                None => format!("{}: {kind}", camel(name)),
            })
            .collect();
        if let Some(event) = &verb.event {
            inputs.push(format!("onEvent?: (event: {event}) => void"));
        }
        let response = match verb.response.as_str() {
            "null" => "void",
            other => other,
        };
        text += &docs(verb.docs);
        text += &format!(
            "  {}({}): Promise<{response}>;\n",
            verb.name,
            inputs.join(", ")
        );
        table += &format!(
            "  {}: {{ inputs: {}, listens: {}, immediate: {} }},\n",
            verb.name,
            verb.inputs.len(),
            verb.event.is_some(),
            verb.immediate
        );
    }
    text + "}\n\n"
        + &table
        + "} as const satisfies Record<keyof StudioVerbs, { inputs: number; listens: boolean; immediate: boolean }>;\n"
}

#[test]
fn the_page_has_the_types_of_today() {
    let path = repository().join("web/src/engine/studio.ts");
    let generated = generated();
    if std::env::var_os("TRIMTAB_WRITE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == generated,
        "web/src/engine/studio.ts is not what crates/studio says; write it with TRIMTAB_WRITE=1 cargo test --release -p trimtab-studio --test it typescript"
    );
}
