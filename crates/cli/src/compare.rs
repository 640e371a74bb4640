//! `trimtab compare`: which vectors are nearly the same. No model is needed.

use crate::output::print_json;
use crate::vectors::{open_vector, ready_made};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use trimtab_engine::{Layer, LayerTable};
use trimtab_persona::controls::cosines;
use trimtab_persona::plan::parse_layers;

/// Cosine, on either side, from which on two vectors are called nearly the same line.
const NEARLY: f32 = 0.8;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Ready-made traits, or paths of vector files (PATH#TENSOR chooses a tensor) [default: all ready-made traits]
    #[arg(value_name = "VECTOR")]
    vectors: Vec<String>,
    /// LAYER[,LAYER…|a-b] [default: the layer that the first vector's file recommends]
    #[arg(long, value_name = "LAYERS")]
    layers: Option<String>,
    /// Print {"names", "layers": [{"layer", "cosines": [n][n]}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    names: Vec<String>,
    layers: Vec<Matrix>,
}

#[derive(Serialize)]
struct Matrix {
    layer: u32,
    /// `[n][n]`; 0 where a vector has no length at that layer.
    cosines: Vec<Vec<f32>>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let names = match arguments.vectors.is_empty() {
        true => ready_made(),
        false => arguments.vectors.clone(),
    };
    ensure!(
        names.len() > 1,
        "name at least two vectors; ready-made ones here: {}",
        ready_made().join(", ")
    );
    let mut usual = None;
    let mut tables: Vec<LayerTable> = Vec::new();
    for name in &names {
        let (path, tensor, file) = open_vector(name)?;
        let (_, table) = file
            .choose(tensor.as_deref())
            .with_context(|| path.display().to_string())?;
        if let Some(first) = tables.first() {
            ensure!(
                (table.rows(), table.width()) == (first.rows(), first.width()),
                "{name} has shape [{}, {}], and {} has [{}, {}]: vectors of different models cannot be compared",
                table.rows(),
                table.width(),
                names[0],
                first.rows(),
                first.width(),
            );
        } else {
            usual = file.metadata.recommended.clone();
        }
        tables.push(table.clone());
    }
    let layers = match (&arguments.layers, usual) {
        (Some(layers), _) => {
            parse_layers(layers).map_err(|reason| anyhow!("--layers: {reason}"))?
        }
        (None, Some(usual)) => usual.layers(),
        (None, None) => {
            return Err(anyhow!(
                "the file of {} recommends no layer; give --layers",
                names[0]
            ));
        }
    };
    let rows = tables[0].rows();
    if let Some(layer) = layers.iter().find(|layer| layer.index() >= rows) {
        return Err(anyhow!(
            "layer {} does not exist: these vectors have layers 0 to {}",
            layer.0,
            rows - 1
        ));
    }
    let tables: Vec<&LayerTable> = tables.iter().collect();
    let matrix = |layer: &Layer| Matrix {
        layer: layer.0,
        cosines: cosines(&tables, *layer)
            .chunks(names.len())
            .map(<[f32]>::to_vec)
            .collect(),
    };
    let report = Report {
        layers: layers.iter().map(matrix).collect(),
        names,
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        report
            .layers
            .iter()
            .for_each(|one| print(one, &report.names));
    }
    Ok(())
}

fn print(matrix: &Matrix, names: &[String]) {
    println!("cosines at layer {}", matrix.layer);
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0);
    for (name, row) in names.iter().zip(&matrix.cosines) {
        let row: Vec<String> = row.iter().map(|cosine| format!("{cosine:+.2}")).collect();
        println!("{name:width$}  {}", row.join("  "));
    }
    let mut pairs: Vec<(f32, &str, &str)> = Vec::new();
    for (at, row) in matrix.cosines.iter().enumerate() {
        let before = names.iter().zip(row).take(at);
        pairs.extend(before.map(|(other, cosine)| (*cosine, other.as_str(), names[at].as_str())));
    }
    pairs.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    let nearly = pairs.iter().take_while(|pair| pair.0.abs() >= NEARLY);
    let nearly: Vec<String> = nearly
        .map(|(cosine, one, other)| format!("{one} and {other} ({cosine:+.2})"))
        .collect();
    match (nearly.is_empty(), pairs.first()) {
        (false, _) => println!("nearly the same line: {}", nearly.join(", ")),
        (true, Some((cosine, one, other))) => println!(
            "none are nearly the same (cosine of {NEARLY} or more on either side); the nearest are {one} and {other} ({cosine:+.2})"
        ),
        (true, None) => {}
    }
}
