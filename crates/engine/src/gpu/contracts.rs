//! Tests of the agreements between host and shaders, without a GPU: every kernel of every variant is valid WGSL, is given the
//! buffers that it declares, and reads records as the host writes them.

use super::attention::AttentionShape;
use super::compile::bindings;
use super::fuse::fuse;
use super::graph::{Matrix, Piece, Planned};
use super::layout::{Form, MatrixShape, Pieces, RowOrder};
use super::parts::Parts;
use super::plan::GraphShape;
use super::shader::{Kernel, constants, render, sabotage};
use super::step::{READINGS_AT, STEP_HEADER, StepRow};
use super::variant::Variant;
use crate::executor::Limits;
use crate::op::ForwardPass;
use crate::types::Precision;
use std::collections::HashSet;
use trimtab_checkpoint::ModelConfig;

const CONFIG: &str = r#"{"model_type": "qwen2", "hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 96, "intermediate_size": 160, "vocab_size": 300, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 2}"#;

const GPT2: &[u8] = include_bytes!("../../../../tests/golden/families/gpt2/config.json");

const LIMITS: Limits = Limits {
    rows: 16,
    head_rows: 16,
    sequences: 2,
    context: 128,
    change_slots: 6,
    in_flight: 4,
};

/// Shows each kernel of each variant of a small model in each form, once.
fn each_kernel(see: &mut dyn FnMut(Precision, &Planned, &str)) {
    let mut seen = HashSet::new();
    for (model, activation) in [
        ("qwen2", "silu"),
        ("llama", "gelu_pytorch_tanh"),
        ("qwen3", "silu"),
        ("gpt2", "gelu_new"),
    ] {
        let mut config = match model {
            "gpt2" => ModelConfig::from_json(GPT2),
            _ => ModelConfig::from_json(CONFIG.replace("qwen2", model).as_bytes()),
        }
        .unwrap();
        config.activation = activation.into();
        let pass = ForwardPass::of(&config).unwrap();
        let fused = fuse(&pass, config.head_dim);
        let pieces = pieces(&config);
        for precision in [Precision::Exact, Precision::Fast] {
            // The last as 4-bit files have it: values' weights are finer than those of queries and keys.
            let forms = Form::ALL.map(|form| [form; 3]).into_iter();
            let forms = forms.chain([[Form::Q4, Form::Q4, Form::Q6]]);
            let forms =
                forms.filter(|forms| precision == Precision::Exact || forms[0].is_quantised());
            let variants = Variant::candidates(false)
                .iter()
                .filter(|one| one.exists(precision, true));
            for (&variant, forms) in
                variants.flat_map(|one| forms.clone().map(move |forms| (one, forms)))
            {
                for packed_dot in [true, false] {
                    let workgroups = variant.few.workgroups;
                    let attention = AttentionShape::of(&config, precision, workgroups);
                    let parts = Parts::of(&config, precision, workgroups, attention);
                    let shape = GraphShape {
                        config: &config,
                        pass: &pass,
                        fused: fused.as_ref(),
                        limits: &LIMITS,
                        precision,
                        variant,
                        parts: parts.filter(|_| variant.few.merged && fused.is_some()),
                        packed_dot,
                        matrix: &|matrix| shape_of(matrix, &forms, &config, &pass),
                        embedding: pieces,
                        head: pieces,
                    };
                    for planned in shape.plan().dispatches {
                        let source = render(planned.kernel, &planned.constants).unwrap();
                        if seen.insert((precision == Precision::Fast, source.clone())) {
                            see(precision, &planned, &source);
                        }
                    }
                }
            }
        }
    }
    assert!(seen.len() > 200, "{}", seen.len());
}

/// Those of one family lie in two.
fn pieces(config: &ModelConfig) -> Pieces {
    Pieces {
        rows: config.vocab_size,
        each: match config.model_type.as_str() {
            "llama" => 192,
            _ => config.vocab_size,
        },
    }
}

fn shape_of(
    matrix: Matrix,
    forms: &[Form],
    config: &ModelConfig,
    pass: &ForwardPass,
) -> MatrixShape {
    let (d, ffn, attention) = (
        config.hidden_size,
        config.ffn_size,
        config.heads * config.head_dim,
    );
    let plain = |rows| RowOrder::Plain { first: 0, rows };
    let heads = [config.heads, config.kv_heads, config.kv_heads];
    let pairs = RowOrder::RotaryPairs {
        heads,
        head_dim: config.head_dim,
    };
    let biases = match config.model_type.as_str() {
        "qwen2" => 2 * pairs.rows(),
        _ => 0,
    };
    match matrix {
        Matrix::Embedding(Piece(piece)) | Matrix::Head(Piece(piece)) => {
            let rows = pieces(config).ranges().nth(piece).unwrap().len();
            MatrixShape::new(forms, &plain(rows), d, 0)
        }
        Matrix::Qkv(_) => MatrixShape::new(forms, &pairs, d, biases),
        Matrix::Output(_) => MatrixShape::new(forms, &plain(d), attention, 0),
        Matrix::GateUp(_) => MatrixShape::new(forms, &RowOrder::Interleaved { rows: ffn }, d, 0),
        Matrix::Down(_) => MatrixShape::new(forms, &plain(d), ffn, 0),
        Matrix::Plain(_) | Matrix::Positions => {
            let weight = match matrix {
                Matrix::Plain(id) => &pass.matrices[id],
                _ => &pass.matrices[1],
            };
            MatrixShape::new(forms, &plain(weight.rows), weight.cols, weight.rows)
        }
    }
}

/// The module, valid with WebGPU's core and nothing else, unless halves are asked for; naga counts packing them as a capability, too.
fn validated(label: &str, source: &str) -> naga::Module {
    let numbered = || {
        source
            .lines()
            .zip(1..)
            .map(|(line, n)| format!("{n:4} {line}\n"))
            .collect::<String>()
    };
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|error| {
        panic!("{label}: {}\n{}", error.emit_to_string(source), numbered())
    });
    let mut capabilities = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let halves = source.starts_with("enable f16;");
    capabilities.set(naga::valid::Capabilities::SHADER_FLOAT16, halves);
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(source)));
    module
}

/// Each global variable with a binding, in order: whether it is a uniform, and whether the kernel may write it.
fn declared(module: &naga::Module) -> Vec<wgpu::BufferBindingType> {
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    let mut bound: Vec<_> = variables
        .filter_map(|variable| {
            let ty = match variable.space {
                naga::AddressSpace::Uniform => wgpu::BufferBindingType::Uniform,
                naga::AddressSpace::Storage { access } => wgpu::BufferBindingType::Storage {
                    read_only: !access.contains(naga::StorageAccess::STORE),
                },
                _ => return None,
            };
            Some((variable.binding.as_ref()?.binding, ty))
        })
        .collect();
    bound.sort_by_key(|(binding, _)| *binding);
    assert!((0..).zip(&bound).all(|(at, (binding, _))| at == *binding));
    bound.into_iter().map(|(_, ty)| ty).collect()
}

#[test]
fn every_kernel_in_every_variant_is_valid_portable_wgsl_over_its_buffers() {
    each_kernel(&mut |precision, planned, source| {
        let label = format!("{}, {precision:?}", planned.kernel.label());
        let module = validated(&label, source);
        let found: Vec<_> = bindings(source).collect();
        assert_eq!(found, declared(&module), "{label}");
        assert_eq!(found.len(), planned.slots.len(), "{label}");
    });
    for work in ["reads", "multiplies"] {
        let source = render(Kernel::Peak, &constants! { work: work, rounds: 8 }).unwrap();
        assert_eq!(
            bindings(&source).collect::<Vec<_>>(),
            declared(&validated(work, &source))
        );
    }
}

#[test]
fn every_fault_changes_a_shader() {
    let mut faults = sabotage::all();
    each_kernel(&mut |precision, planned, source| {
        let precision = format!("{precision:?}").to_lowercase();
        for fault in &mut faults {
            if planned.kernel.label() == fault.kernel && source.contains(&fault.from) {
                fault.precisions.retain(|one| *one != precision);
            }
        }
    });
    for fault in faults {
        assert!(fault.precisions.is_empty(), "no shader has {fault:?}");
    }
}

#[test]
fn the_step_and_the_records_lie_where_the_host_says() {
    let mut checked = false;
    each_kernel(&mut |_, planned, source| {
        if planned.kernel != Kernel::Boundary || checked {
            return;
        }
        checked = true;
        let module = validated("boundary", source);
        let offsets = |name: &str| -> Vec<(String, usize)> {
            let found = module
                .types
                .iter()
                .find(|(_, ty)| ty.name.as_deref() == Some(name));
            let naga::TypeInner::Struct { members, .. } = &found.unwrap().1.inner else {
                panic!("{name} is a structure");
            };
            let member = |member: &naga::StructMember| {
                (member.name.clone().unwrap(), member.offset as usize)
            };
            members.iter().map(member).collect()
        };
        macro_rules! host {
            ($($field:ident)*) => { vec![$((stringify!($field).to_owned(), std::mem::offset_of!(StepRow, $field))),*] };
        }
        let row = host!(sequence position token change head wanted seed top_k temperature top_p repetition_penalty head_row page inside pad0 pad1);
        assert_eq!(offsets("Row"), row);
        assert_eq!(offsets("Step").pop(), Some(("row".to_owned(), STEP_HEADER)));
        let readings = module
            .constants
            .iter()
            .find(|(_, constant)| constant.name.as_deref() == Some("READINGS"));
        let value = &module.global_expressions[readings.unwrap().1.init];
        let naga::Expression::Literal(naga::Literal::U32(at)) = value else {
            panic!("{value:?}");
        };
        assert_eq!(*at as usize, READINGS_AT);
    });
    assert!(checked);
}
