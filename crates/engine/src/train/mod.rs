//! Training of low-rank adapters beside a frozen model, whose weights stay as they are stored.
//!
//! The family's list of operations ([`crate::op`]) is walked forwards and then backwards ([`mod@kernels`] has both directions of each
//! operation, in a readable and in a fast form); nothing here knows a family. Read [`adapter`] (what is trained), `walk` and `backward` (the two
//! directions), `pass` (a micro-batch: what is kept and what is computed again), `loss` (the head in pieces), [`trainer`] (steps) and
//! [`optimiser`] in this order.
//!
//! ```no_run
//! # use trimtab_engine::train::*;
//! # use trimtab_engine::{Backend, SteeringPlan};
//! # fn run(model: BaseModel, examples: Vec<Example>) -> Result<(), TrainError> {
//! let config = AdapterConfig { rank: 8, alpha: 16.0, rank_stabilised: false, targets: Target::ALL.to_vec(), blocks: 8..30 };
//! let adapter = Adapter::new(&model, config, 0)?;
//! let plan = SteeringPlan::default();
//! let mut trainer = Trainer::new(model, kernels(Backend::Cpu)?, adapter, examples, &plan, Settings::default())?;
//! while let Some(report) = trainer.step()? {
//!     println!("step {}: {:.3} nats a token", report.step, report.loss);
//! }
//! # Ok(())
//! # }
//! ```

pub mod adapter;
mod backward;
mod changes;
mod error;
mod example;
pub mod kernels;
mod loss;
mod model;
pub mod optimiser;
mod order;
mod pass;
mod settings;
mod state;
pub mod trainer;
mod walk;

pub use adapter::{Adapter, AdapterConfig, Target};
pub use changes::Penalty;
pub use error::TrainError;
pub use example::Example;
pub use model::BaseModel;
pub use optimiser::OptimiserSettings;
pub use settings::Settings;
pub use state::TrainingState;
pub use trainer::{Progress, StepReport, Trainer};

use crate::cpu::train::CpuTraining;
use crate::error::EngineError;
use crate::reference::train::ReferenceTraining;
use crate::types::Backend;
use kernels::TrainingKernels;

/// The kernels of an executor.
///
/// # Errors
/// [`Backend::Gpu`], on which training does not run.
pub fn kernels(backend: Backend) -> Result<Box<dyn TrainingKernels>, TrainError> {
    match backend {
        Backend::Cpu => Ok(Box::<CpuTraining>::default()),
        Backend::Reference => Ok(Box::new(ReferenceTraining)),
        Backend::Gpu => Err(TrainError::Engine(EngineError::Usage(
            "training runs on the processor: choose the CPU".into(),
        ))),
    }
}
