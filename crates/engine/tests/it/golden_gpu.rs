//! The GPU executor, natively through wgpu, against the golden data of `tests/golden`. A software adapter reads four tokens a second,
//! so that a part of the data is asked for, and all of it in `cargo xtask test --full native`; kernels, steering, readings and
//! batches are compared on small models (`executors_agree`, `answers_agree`).

/// Activations in f32.
mod exact {
    use crate::golden::{Demands, Extent, behaviour, predictions, residual, shared};
    use trimtab_engine::{Backend, Precision};
    use trimtab_testing::default_model::{SharedEngine, Taken};
    use trimtab_testing::full;

    static ENGINE: SharedEngine = shared(Backend::Gpu, Precision::Exact);
    const DEMANDS: Demands = Demands::of(Precision::Exact);
    const PART: Extent = Extent {
        texts: 1,
        tokens: 32,
        chats: 0,
        samplers: 0,
    };

    fn engine() -> Taken<'static> {
        ENGINE.take()
    }

    #[test]
    fn residual_stream_and_likelihood() {
        residual::residual_stream(&mut engine(), DEMANDS);
        let extent = if full() { Extent::WHOLE } else { PART };
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, extent);
    }

    #[test]
    #[ignore = "minutes on a software adapter: cargo xtask test --full native"]
    fn readings_and_steering() {
        residual::readings(&mut engine(), DEMANDS);
        residual::steering(&mut engine(), DEMANDS);
    }

    /// Where a free run is the reference's to its end, forcing the reference's tokens asks for the same a second time.
    #[test]
    #[ignore = "minutes on a software adapter: cargo xtask test --full native"]
    fn greedy_and_sampled_tokens() {
        let parted = predictions::greedy_free_run(&mut engine(), Extent::WHOLE);
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |prompt| {
            parted.contains(&prompt)
        });
        predictions::sampling(&mut engine(), Extent::WHOLE);
    }

    #[test]
    #[ignore = "minutes on a software adapter: cargo xtask test --full native"]
    fn plans_turns_and_segments() {
        behaviour::zero_coefficient_is_no_plan(&mut engine());
        behaviour::second_turn_continues_the_first(&mut engine());
        behaviour::changed_plan_opens_a_segment(&mut engine());
        behaviour::abandoned_run_harms_nothing(&mut engine());
    }
}

/// Activations in 8-bit blocks.
mod fast {
    use crate::golden::{Demands, Extent, behaviour, predictions, residual, shared};
    use trimtab_engine::{Backend, Precision};
    use trimtab_testing::default_model::{SharedEngine, Taken};
    use trimtab_testing::full;

    static ENGINE: SharedEngine = shared(Backend::Gpu, Precision::Fast);
    const DEMANDS: Demands = Demands::of(Precision::Fast);
    const PART: Extent = Extent {
        texts: 1,
        tokens: 96,
        chats: 1,
        samplers: 0,
    };

    fn engine() -> Taken<'static> {
        ENGINE.take()
    }

    #[test]
    fn residual_stream_likelihood_and_a_chat() {
        let extent = if full() { Extent::WHOLE } else { PART };
        residual::residual_stream(&mut engine(), DEMANDS);
        predictions::negative_log_likelihood(&mut engine(), DEMANDS, extent);
        predictions::greedy_teacher_forced(&mut engine(), DEMANDS, |chat| chat < extent.chats);
    }

    #[test]
    #[ignore = "minutes on a software adapter: cargo xtask test --full native"]
    fn readings_steering_and_no_plan() {
        residual::readings(&mut engine(), DEMANDS);
        residual::steering(&mut engine(), DEMANDS);
        behaviour::zero_coefficient_is_no_plan(&mut engine());
    }
}
