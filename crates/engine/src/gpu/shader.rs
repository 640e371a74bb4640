//! The kernels' source: the WGSL of `shaders/`, made for one model and one adapter.
//!
//! Three things are done to a file, each on lines that are WGSL comments or constants to an editor: `// include NAME` becomes that
//! file of `shaders/include`, `{{name}}` the constant of that name, and the `for` loop after `// unroll` as many copies of
//! its body as it has turns. The last is for software adapters, to which a dynamic index into an array of sums costs more than the sum.

use crate::error::EngineError;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

/// Kernels, one WGSL file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Embed,
    Boundary,
    Project(Epilogue),
    Attention,
    AttentionOutput,
    FeedForward,
    Sample,
    /// The operations for which nothing is merged (`super::plain`).
    AddPosition,
    Norm,
    Activations,
    Rotate,
    Remember,
    Gate,
    Add,
    /// Measures the adapter, not a model.
    Peak,
}

/// What becomes of a projection's sums (`shaders/include/epilogue_*.wgsl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    Add,
    AddGain,
    Gate,
    Rotate,
    Logits,
    Store,
}

impl Kernel {
    pub const fn file(self) -> &'static str {
        match self {
            Self::Embed => "embed.wgsl",
            Self::Boundary => "boundary.wgsl",
            Self::Project(_) => "project.wgsl",
            Self::Attention => "attention.wgsl",
            Self::AttentionOutput => "attention_output.wgsl",
            Self::FeedForward => "feed_forward.wgsl",
            Self::Sample => "sample.wgsl",
            Self::AddPosition => "add_position.wgsl",
            Self::Norm => "norm.wgsl",
            Self::Activations => "activations.wgsl",
            Self::Rotate => "rotate.wgsl",
            Self::Remember => "remember.wgsl",
            Self::Gate => "gate.wgsl",
            Self::Add => "add.wgsl",
            Self::Peak => "peak.wgsl",
        }
    }

    /// The name of its pipelines, by which profiles and tests tell kernels apart: the file, and the epilogue where it has one.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Project(Epilogue::Add) => "project.wgsl, add",
            Self::Project(Epilogue::AddGain) => "project.wgsl, add_gain",
            Self::Project(Epilogue::Gate) => "project.wgsl, gate",
            Self::Project(Epilogue::Rotate) => "project.wgsl, rotate",
            Self::Project(Epilogue::Logits) => "project.wgsl, logits",
            Self::Project(Epilogue::Store) => "project.wgsl, store",
            _ => self.file(),
        }
    }
}

impl Epilogue {
    /// Matrix rows that one sum of it is made of, MEMBERS of its file.
    pub const fn members(self) -> u32 {
        match self {
            Self::Gate | Self::Rotate => 2,
            Self::Add | Self::AddGain | Self::Logits | Self::Store => 1,
        }
    }

    /// As its file is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::AddGain => "add_gain",
            Self::Gate => "gate",
            Self::Rotate => "rotate",
            Self::Logits => "logits",
            Self::Store => "store",
        }
    }
}

macro_rules! sources {
    ($($file:literal)*) => {
        &[$(($file, include_str!(concat!("../../../../shaders/", $file)))),*]
    };
}

const SOURCES: &[(&str, &str)] = sources!(
    "embed.wgsl" "boundary.wgsl" "project.wgsl" "attention.wgsl" "attention_output.wgsl" "feed_forward.wgsl" "sample.wgsl" "peak.wgsl"
    "activations.wgsl" "add.wgsl" "add_position.wgsl" "gate.wgsl" "norm.wgsl" "remember.wgsl" "rotate.wgsl"
    "include/activate.wgsl" "include/attend.wgsl" "include/between.wgsl" "include/cache.wgsl" "include/cache_write.wgsl" "include/dots_half.wgsl" "include/dots_packed.wgsl"
    "include/dots_spelled.wgsl" "include/encode.wgsl" "include/epilogue_add.wgsl" "include/epilogue_add_gain.wgsl"
    "include/epilogue_gate.wgsl" "include/epilogue_logits.wgsl" "include/epilogue_rotate.wgsl" "include/epilogue_store.wgsl"
    "include/heads_encoded.wgsl" "include/heads_plain.wgsl" "include/in_between.wgsl" "include/inputs_direct.wgsl"
    "include/inputs_staged.wgsl" "include/inputs_stored.wgsl" "include/matrix.wgsl" "include/matrix_of_two_forms.wgsl" "include/no_parts.wgsl" "include/parts.wgsl"
    "include/place_after_attention.wgsl" "include/place_heads.wgsl" "include/place_residual.wgsl" "include/place_value.wgsl"
    "include/products_float.wgsl" "include/products_packed.wgsl" "include/records.wgsl" "include/step.wgsl" "include/strips.wgsl"
    "include/sum_of_parts.wgsl" "include/weight_number.wgsl" "include/weights.wgsl"
);

/// Constants of a kernel's source by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constants(BTreeMap<&'static str, String>);

impl Constants {
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.0.insert(name, value.to_string());
        self
    }

    /// Both; the value in `more` where both have one.
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }
}

macro_rules! constants {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::gpu::shader::Constants::default()$(.with(stringify!($name), $value))*
    };
}
pub(super) use constants;

/// The WGSL of `kernel` with these constants.
pub fn render(kernel: Kernel, constants: &Constants) -> Result<String, EngineError> {
    let broken = |reason| EngineError::Device {
        what: format!("the shader {}", kernel.label()),
        reason,
    };
    let (mut directives, mut body) = (String::new(), String::new());
    assemble(kernel.file(), constants, &mut directives, &mut body).map_err(broken)?;
    let mut source = directives;
    unroll(&body, &counts(&body), &mut source).map_err(broken)?;
    #[cfg(test)]
    let source = sabotage::apply(kernel, source);
    Ok(source)
}

/// Appends a file with what it includes; `enable` lines, which stand before everything else, go to `directives`.
fn assemble(
    name: &str,
    constants: &Constants,
    directives: &mut String,
    body: &mut String,
) -> Result<(), String> {
    let file = SOURCES.iter().find(|(file, _)| *file == name);
    let (_, text) = file.ok_or_else(|| format!("there is no file {name}"))?;
    for line in text.lines() {
        let line = substitute(line, constants)?;
        if let Some(included) = line.strip_prefix("// include ") {
            assemble(&format!("include/{included}"), constants, directives, body)?;
            continue;
        }
        let part = if line.starts_with("enable ") {
            &mut *directives
        } else {
            &mut *body
        };
        part.push_str(&line);
        part.push('\n');
    }
    Ok(())
}

fn substitute(line: &str, constants: &Constants) -> Result<String, String> {
    let mut done = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .ok_or("a constant's name does not end")?;
        let value = constants
            .0
            .get(name)
            .ok_or_else(|| format!("there is no constant {name}"))?;
        done.push_str(before);
        done.push_str(value);
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

/// The numbers that the source's own constants name.
fn counts(source: &str) -> HashMap<&str, u32> {
    let constant = |line: &'_ str| -> Option<(usize, usize, u32)> {
        let rest = line.strip_prefix("const ")?;
        let (name, value) = rest.split_once(": u32 = ")?;
        let value = value.strip_suffix(';')?.parse().ok()?;
        Some((6, 6 + name.len(), value))
    };
    let lines = source.lines();
    lines
        .filter_map(|line| constant(line).map(|(from, to, value)| (&line[from..to], value)))
        .collect()
}

const UNROLL: &str = "// unroll\n";

/// Appends `source` with every loop after [`UNROLL`] written out. Such a loop reads `for (var i = 0u; i < COUNT; i++) {`.
fn unroll(source: &str, counts: &HashMap<&str, u32>, done: &mut String) -> Result<(), String> {
    let mut rest = source;
    while let Some((before, after)) = rest.split_once(UNROLL) {
        done.push_str(before);
        let (header, after) = after.split_once('{').ok_or("nothing to unroll")?;
        let words: Vec<_> = header
            .split([' ', ';', '(', ')'])
            .filter(|word| !word.trim().is_empty())
            .collect();
        let ["for", "var", index, "=", "0u", _, "<", count, _] = words[..] else {
            return Err(format!("not a loop that can be unrolled: {header}"));
        };
        let count = counts.get(count).copied().or_else(|| count.parse().ok());
        let count = count.ok_or_else(|| format!("no number of turns is known: {header}"))?;
        let (body, after) = after.split_at(end_of_block(after).ok_or("a loop does not end")?);
        for turn in 0..count {
            done.push('{');
            unroll(&with_index(body, index, turn), counts, done)?;
            done.push_str("}\n");
        }
        rest = &after[1..];
    }
    done.push_str(rest);
    Ok(())
}

/// Where the brace is that closes the block in which `text` begins.
fn end_of_block(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    text.char_indices().find_map(|(at, letter)| {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// `body` with the number of the turn in the place of the variable `index`.
fn with_index(body: &str, index: &str, turn: u32) -> String {
    let mut done = String::with_capacity(body.len());
    let mut rest = body;
    let part_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    while let Some(start) = rest.find(part_of_name) {
        let word = &rest[start..];
        let word = &word[..word
            .find(|letter| !part_of_name(letter))
            .unwrap_or(word.len())];
        done.push_str(&rest[..start]);
        match word == index && !rest[..start].ends_with('.') {
            true => done.push_str(&format!("{turn}u")),
            false => done.push_str(word),
        }
        rest = &rest[start + word.len()..];
    }
    done.push_str(rest);
    done
}

/// For tests: the deliberate faults of `shaders/sabotage.json`, which the browser's tests read, too.
#[cfg(test)]
pub mod sabotage {
    use super::Kernel;
    use std::cell::RefCell;

    /// In sources of the kernel with the label `kernel`, `from` becomes `to`; noticed at each of `precisions`.
    #[derive(Clone, Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Sabotage {
        pub name: String,
        /// Kind of kernel: a quick test makes one fault of each.
        pub class: String,
        /// The `model_type` of a model that runs this source; without it, the default model does.
        #[serde(default)]
        pub model: Option<String>,
        pub kernel: String,
        pub precisions: Vec<String>,
        pub from: String,
        pub to: String,
    }

    pub fn all() -> Vec<Sabotage> {
        let list = include_str!("../../../../shaders/sabotage.json");
        serde_json::from_str(list).expect("a list of faults")
    }

    thread_local! {
        static UNDER_WAY: RefCell<Option<(Sabotage, usize)>> = const { RefCell::new(None) };
    }

    /// Runs `work` on this thread with every source that is rendered meanwhile so changed, and says how many were.
    pub fn during<T>(sabotage: &Sabotage, work: impl FnOnce() -> T) -> (T, usize) {
        UNDER_WAY.set(Some((sabotage.clone(), 0)));
        let done = work();
        (done, UNDER_WAY.take().map_or(0, |(_, applied)| applied))
    }

    pub fn apply(kernel: Kernel, source: String) -> String {
        UNDER_WAY.with_borrow_mut(|under_way| match under_way {
            Some((fault, applied))
                if fault.kernel == kernel.label() && source.contains(&fault.from) =>
            {
                *applied += 1;
                source.replace(&fault.from, &fault.to)
            }
            _ => source,
        })
    }
}
