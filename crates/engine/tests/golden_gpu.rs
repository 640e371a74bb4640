//! The GPU executor, natively through wgpu, against the golden data of `tests/golden`. What a software adapter would take minutes
//! for is left out where another test meets it: batches on small models (`answers_agree`), cached prefixes in a second turn.

mod golden;

/// Activations in f32.
mod exact {
    use super::golden::{Demands, SharedEngine, behaviour, predictions, residual};
    use std::sync::MutexGuard;
    use trimtab_engine::{Backend, Engine, Precision};

    static ENGINE: SharedEngine = SharedEngine::new();
    const DEMANDS: Demands = Demands::of(Precision::Exact);

    fn engine() -> MutexGuard<'static, Engine> {
        ENGINE.take(Backend::Gpu, Precision::Exact)
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS);
    }

    #[test]
    fn residual_stream() {
        residual::residual_stream(&mut engine(), DEMANDS);
    }

    #[test]
    fn readings() {
        residual::readings(&mut engine(), DEMANDS);
    }

    #[test]
    fn steering() {
        residual::steering(&mut engine(), DEMANDS);
    }

    #[test]
    fn greedy_tokens_teacher_forced() {
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS);
    }

    #[test]
    fn greedy_tokens_free_run() {
        predictions::greedy_free_run(&mut engine());
    }

    #[test]
    fn sampled_tokens() {
        predictions::sampling(&mut engine());
    }

    #[test]
    fn zero_coefficient_is_no_plan() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }

    #[test]
    fn second_turn_continues_the_first() {
        behaviour::second_turn_continues_the_first(&mut engine());
    }

    #[test]
    fn changed_plan_opens_a_segment() {
        behaviour::changed_plan_opens_a_segment(&mut engine());
    }

    #[test]
    fn abandoned_run_harms_nothing() {
        behaviour::abandoned_run_harms_nothing(&mut engine());
    }
}

/// Activations in 8-bit blocks.
mod fast {
    use super::golden::{Demands, SharedEngine, behaviour, predictions, residual};
    use std::sync::MutexGuard;
    use trimtab_engine::{Backend, Engine, Precision};

    static ENGINE: SharedEngine = SharedEngine::new();
    const DEMANDS: Demands = Demands::of(Precision::Fast);

    fn engine() -> MutexGuard<'static, Engine> {
        ENGINE.take(Backend::Gpu, Precision::Fast)
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS);
    }

    #[test]
    fn residual_stream() {
        residual::residual_stream(&mut engine(), DEMANDS);
    }

    #[test]
    fn readings() {
        residual::readings(&mut engine(), DEMANDS);
    }

    #[test]
    fn steering() {
        residual::steering(&mut engine(), DEMANDS);
    }

    #[test]
    fn greedy_tokens_teacher_forced() {
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS);
    }

    #[test]
    fn zero_coefficient_is_no_plan() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }
}
