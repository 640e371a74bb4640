//! The steering that `trimtab link make` is asked for: plans, the traits of the recipe, and whose readings are shown.

use crate::link_make::Arguments;
use crate::vectors::{load_adapter, load_vector, load_vectors, open_vector, ready_made};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use trimtab_engine::Layer;
use trimtab_persona::plan::{NamedTerm, parse_layers};
use trimtab_persona::recipe::inline_vector::InlineVector;
use trimtab_persona::recipe::view::read_hexadecimal;
use trimtab_persona::recipe::{
    Context as TextContext, Look, NamedHash, Recipe, RecipeMessage, RecipeTrait, VectorReference,
};
use trimtab_persona::vector_file::TraitVector;
use trimtab_studio::session::Session;

pub type Plan = Vec<NamedTerm>;

/// See the module. Names are those of the command line.
pub struct LinkSteering {
    plan: Plan,
    /// Plans that begin at a token of the last answer.
    changes: BTreeMap<usize, Plan>,
    /// Whose readings are shown at which layer.
    look: Option<(String, Layer)>,
    /// In the order of the vectors.
    traits: Vec<(String, RecipeTrait)>,
    pub vectors: Vec<TraitVector>,
}

impl LinkSteering {
    pub fn load(arguments: &Arguments, session: &mut Session) -> Result<Self> {
        let mut plan = arguments.steering.terms()?;
        let mut changes: BTreeMap<usize, Plan> = BTreeMap::new();
        for text in &arguments.changes {
            let (from, term) = text
                .split_once(':')
                .with_context(|| format!("{text:?} is not N:NAME=α@LAYERS"))?;
            let from: usize = from
                .parse()
                .with_context(|| format!("{from:?} is not a token's number"))?;
            let plan = changes.entry(from).or_default();
            if !term.is_empty() {
                plan.push(term.parse()?);
            }
        }
        let mut terms = plan.iter_mut().chain(changes.values_mut().flatten());
        terms.try_for_each(|term| load_adapter(term, session))?;
        let terms = plan.iter_mut().chain(changes.values_mut().flatten());
        let vectors = load_vectors(terms, session)?;
        let mut steering = Self {
            plan,
            changes,
            look: None,
            traits: Vec::new(),
            vectors,
        };
        steering.look = steering.choose_look(arguments)?;
        if let Some((name, _)) = &steering.look
            && steering.vectors.iter().all(|vector| vector.name != *name)
        {
            steering.vectors.push(load_vector(name, session)?);
        }
        steering.vectors.sort_by(|a, b| a.name.cmp(&b.name));
        for vector in &steering.vectors {
            let one = steering.recipe_trait(arguments, vector)?;
            steering.traits.push((vector.name.clone(), one));
        }
        Ok(steering)
    }

    fn terms(&self) -> impl Iterator<Item = &NamedTerm> {
        self.plan.iter().chain(self.changes.values().flatten())
    }

    /// The plan that answers begin with, by the recipe's names.
    pub fn plan(&self) -> Plan {
        self.renamed(&self.plan)
    }

    /// The last answer's changes of plan, by the recipe's names.
    pub fn changes(&self) -> Vec<(usize, Plan)> {
        let changes = self.changes.iter();
        changes
            .map(|(from, plan)| (*from, self.renamed(plan)))
            .collect()
    }

    fn choose_look(&self, arguments: &Arguments) -> Result<Option<(String, Layer)>> {
        let Some(look) = &arguments.look else {
            let first = self.terms().find_map(|term| {
                let layer = term.layers.as_ref()?.first()?;
                Some((term.vector.clone(), *layer))
            });
            return Ok(first);
        };
        let (name, layer) = look
            .rsplit_once('@')
            .with_context(|| format!("{look:?} is not NAME@LAYER"))?;
        let layers = parse_layers(layer).map_err(anyhow::Error::msg)?;
        ensure!(layers.len() == 1, "--look takes one layer");
        Ok(Some((name.to_owned(), layers[0])))
    }

    fn recipe_trait(&self, arguments: &Arguments, vector: &TraitVector) -> Result<RecipeTrait> {
        let name = vector.name.as_str();
        if !arguments.inline && ready_made().iter().any(|ready| ready == name) {
            let hash = read_hexadecimal(&vector.hash).context("the vector has no hash")?;
            let range = vector.recommended.as_ref();
            return Ok(RecipeTrait {
                name: name.to_owned(),
                range: range.map(|range| [range.min, range.max]),
                vector: VectorReference::ReadyMade(hash),
            });
        }
        let mut layers: BTreeSet<Layer> = self
            .terms()
            .filter(|term| term.vector == name)
            .flat_map(|term| term.layers.iter().flatten().copied())
            .collect();
        if let Some((look, layer)) = &self.look
            && look == name
        {
            layers.insert(*layer);
        }
        let layers: Vec<Layer> = layers.into_iter().collect();
        let (path, _, file) = open_vector(name)?;
        let made = file.metadata.made.clone().unwrap_or_default();
        let shown = file.metadata.name.clone().unwrap_or_else(|| stem(&path));
        let taken = |shown: &str| self.traits.iter().any(|(_, one)| one.name == shown);
        let shown = match taken(&shown) {
            true => format!("{shown} {}", self.traits.len() + 1),
            false => shown,
        };
        Ok(RecipeTrait {
            name: shown,
            range: None,
            vector: VectorReference::Inline(Box::new(InlineVector::of(vector, &layers, &made)?)),
        })
    }

    /// A plan by the recipe's names.
    fn renamed(&self, plan: &[NamedTerm]) -> Plan {
        let rename = |term: &NamedTerm| NamedTerm {
            vector: self.name_of(&term.vector),
            ..term.clone()
        };
        plan.iter().map(rename).collect()
    }

    fn name_of(&self, name: &str) -> String {
        let found = self.traits.iter().find(|(argument, _)| argument == name);
        found.map_or_else(|| name.to_owned(), |(_, one)| one.name.clone())
    }

    /// The recipe of a conversation that begins with `messages`.
    pub fn recipe(
        &self,
        arguments: &Arguments,
        session: &Session,
        messages: Vec<RecipeMessage>,
    ) -> Result<Recipe> {
        let manifest = arguments.model.manifest()?;
        let directory = arguments.model.directory()?;
        Ok(Recipe {
            model: NamedHash {
                name: manifest.map_or_else(|| stem(&directory), |manifest| manifest.name),
                sha256: read_hexadecimal(&session.sha256).context("the model's sha256 is none")?,
            },
            precision: session.engine.info().precision,
            adapters: adapters(session)?,
            files: Vec::new(),
            traits: self.traits.iter().map(|(_, one)| one.clone()).collect(),
            messages,
            context: TextContext::Tokens,
            prompts: None,
            look: Look {
                trait_name: self.look.as_ref().map(|(name, _)| self.name_of(name)),
                layer: self.look.as_ref().map(|(_, layer)| *layer),
                token: None,
                inside_run: arguments.inside_run,
                title: arguments.title.clone(),
                note: arguments.note.clone(),
            },
        })
    }
}

/// The session's adapters are those that the plans name.
fn adapters(session: &Session) -> Result<Vec<NamedHash>> {
    let all = session.adapters().into_iter();
    let named = all.map(|one| {
        let sha256 = read_hexadecimal(&one.sha256).context("the adapter has no hash")?;
        let name = one.name;
        Ok(NamedHash { name, sha256 })
    });
    named.collect()
}

fn stem(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "vector".into())
}
