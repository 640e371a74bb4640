//! The host executors against the golden data of `tests/golden`.

/// The readable executor that the others are checked against.
mod reference {
    use crate::golden::{Demands, Extent, predictions, residual, shared};
    use trimtab_engine::{Backend, Precision};
    use trimtab_testing::default_model::{SharedEngine, Taken};

    static ENGINE: SharedEngine = shared(Backend::Reference, Precision::Exact);
    const DEMANDS: Demands = Demands::of(Precision::Exact);

    fn engine() -> Taken<'static> {
        ENGINE.take()
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, Extent::WHOLE);
    }

    #[test]
    fn residual_stream() {
        residual::residual_stream(&mut engine(), DEMANDS);
    }

    #[test]
    fn steering() {
        residual::steering(&mut engine(), DEMANDS);
    }

    #[test]
    fn greedy_tokens_teacher_forced() {
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |_| true);
    }

    #[test]
    fn sampled_tokens() {
        predictions::sampling(&mut engine(), Extent::WHOLE);
    }
}

/// Activations in f32.
mod exact {
    use crate::golden::{Demands, Extent, behaviour, predictions, residual, shared};
    use trimtab_engine::{Backend, Precision};
    use trimtab_testing::default_model::{SharedEngine, Taken};

    static ENGINE: SharedEngine = shared(Backend::Cpu, Precision::Exact);
    const DEMANDS: Demands = Demands::of(Precision::Exact);

    fn engine() -> Taken<'static> {
        ENGINE.take()
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, Extent::WHOLE);
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
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |_| true);
    }

    #[test]
    fn greedy_tokens_free_run() {
        predictions::greedy_free_run(&mut engine(), Extent::WHOLE);
    }

    #[test]
    fn sampled_tokens() {
        predictions::sampling(&mut engine(), Extent::WHOLE);
    }

    #[test]
    fn zero_coefficient_is_no_plan() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }

    #[test]
    fn cached_prefixes_are_reused() {
        behaviour::cached_prefixes_are_reused(&mut engine());
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
    fn batch_equals_one_at_a_time() {
        behaviour::batch_equals_one_at_a_time(&mut engine());
    }

    #[test]
    fn seed_decides_the_answer() {
        behaviour::seed_decides_the_answer(&mut engine());
    }

    #[test]
    fn abandoned_run_harms_nothing() {
        behaviour::abandoned_run_harms_nothing(&mut engine());
    }
}

/// Activations in integers.
mod fast {
    use crate::golden::{Demands, Extent, behaviour, predictions, residual, shared};
    use trimtab_engine::{Backend, Precision};
    use trimtab_testing::default_model::{SharedEngine, Taken};

    static ENGINE: SharedEngine = shared(Backend::Cpu, Precision::Fast);
    const DEMANDS: Demands = Demands::of(Precision::Fast);

    fn engine() -> Taken<'static> {
        ENGINE.take()
    }

    #[test]
    fn likelihood_of_real_text() {
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, Extent::WHOLE);
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
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |_| true);
    }

    #[test]
    fn zero_coefficient_is_no_plan() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }

    #[test]
    fn seed_decides_the_answer() {
        behaviour::seed_decides_the_answer(&mut engine());
    }

    #[test]
    fn cached_prefixes_are_reused() {
        behaviour::cached_prefixes_are_reused(&mut engine());
    }

    #[test]
    fn batch_equals_one_at_a_time() {
        behaviour::batch_equals_one_at_a_time(&mut engine());
    }
}
