//! The GPU executor, natively through wgpu, against the golden data of `tests/golden`. What a software adapter would take minutes
//! for is left out where another test meets it: batches on small models (`answers_agree`), cached prefixes in a second turn; of texts
//! and answers a part is enough for most runs ([`golden::Extent`]). A runner that gives each test a process of its own loads the model
//! and compiles the kernels for each, so that tests are few.

mod golden;

/// Activations in f32.
mod exact {
    use super::golden::{Demands, Extent, SharedEngine, behaviour, predictions, residual};
    use std::sync::MutexGuard;
    use trimtab_engine::{Backend, Engine, Precision};

    static ENGINE: SharedEngine = SharedEngine::new();
    const DEMANDS: Demands = Demands::of(Precision::Exact);

    fn engine() -> MutexGuard<'static, Engine> {
        ENGINE.take(Backend::Gpu, Precision::Exact)
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, Extent::on_the_gpu());
    }

    #[test]
    fn residual_stream_readings_and_steering() {
        residual::residual_stream(&mut engine(), DEMANDS);
        residual::readings(&mut engine(), DEMANDS);
        residual::steering(&mut engine(), DEMANDS);
    }

    /// Where a free run is the reference's to its end, forcing the reference's tokens asks for the same a second time.
    #[test]
    fn greedy_tokens() {
        let parted = predictions::greedy_free_run(&mut engine(), Extent::on_the_gpu());
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |prompt| {
            parted.contains(&prompt)
        });
    }

    #[test]
    fn sampled_tokens() {
        predictions::sampling(&mut engine(), Extent::on_the_gpu());
    }

    #[test]
    fn plans_turns_and_segments() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
        behaviour::second_turn_continues_the_first(&mut engine());
        behaviour::changed_plan_opens_a_segment(&mut engine());
        behaviour::abandoned_run_harms_nothing(&mut engine());
    }
}

/// Activations in 8-bit blocks.
mod fast {
    use super::golden::{Demands, Extent, SharedEngine, behaviour, predictions, residual};
    use std::sync::MutexGuard;
    use trimtab_engine::{Backend, Engine, Precision};

    static ENGINE: SharedEngine = SharedEngine::new();
    const DEMANDS: Demands = Demands::of(Precision::Fast);

    fn engine() -> MutexGuard<'static, Engine> {
        ENGINE.take(Backend::Gpu, Precision::Fast)
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, Extent::on_the_gpu());
    }

    #[test]
    fn residual_stream_readings_steering_and_greedy_tokens() {
        residual::residual_stream(&mut engine(), DEMANDS);
        residual::readings(&mut engine(), DEMANDS);
        residual::steering(&mut engine(), DEMANDS);
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |_| true);
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }
}
