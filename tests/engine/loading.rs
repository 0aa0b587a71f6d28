//! Loading as a host sees it that goes on drawing meanwhile.

use std::time::Instant;

use ddpm::engine::{Engine, EngineState, LoadProgress, LoadStage};

use super::{HANG, config};

/// Looks until `is_there`, checking that nothing goes back or looks done before it is.
fn watch(engine: &Engine, is_there: impl Fn(LoadProgress) -> bool) -> LoadProgress {
    let started = Instant::now();
    let mut last = engine.progress();
    while !is_there(last) {
        let now = engine.progress();
        assert!(now.stage >= last.stage && now.fraction >= last.fraction, "{last:?} to {now:?}");
        let is_done = (now.stage == LoadStage::Done, now.fraction == 1.0);
        let is_ready = now.state == EngineState::Ready;
        assert_eq!(is_done, (is_ready, is_ready), "{now:?}");
        assert!(started.elapsed() < HANG, "{now:?}");
        last = now;
    }
    last
}

#[test]
fn a_load_goes_from_stage_to_stage_and_never_back() {
    let engine = Engine::new(config("lin")).unwrap();
    let ready = watch(&engine, |now| now.state != EngineState::Loading);
    assert_eq!((ready.state, ready.fraction), (EngineState::Ready, 1.0));
    engine.close().unwrap();
    let closed = engine.progress();
    assert_eq!((closed.state, closed.stage), (EngineState::Closed, LoadStage::Done));
    // Its first run never ends: the answers come all the same.
    let engine = Engine::new(config("endless_load")).unwrap();
    let running = watch(&engine, |now| now.stage == LoadStage::FirstRuns);
    assert_eq!(running.state, EngineState::Loading);
    assert!((0.5..1.0).contains(&running.fraction), "{running:?}");
    engine.close().unwrap();
    let closed = engine.progress();
    assert_eq!((closed.state, closed.stage), (EngineState::Closed, LoadStage::FirstRuns));
}

#[test]
fn a_load_that_failed_stays_where_it_was() {
    for (name, stage) in
        [("two_channels", LoadStage::Optimise), ("needs_width_8", LoadStage::FirstRuns)]
    {
        let mut config = config(name);
        if name == "needs_width_8" {
            config.overrides.height = Some(8);
            config.overrides.width = Some(9);
        }
        let engine = Engine::new(config).unwrap();
        let failed = watch(&engine, |now| now.state != EngineState::Loading);
        assert_eq!((failed.state, failed.stage), (EngineState::Failed, stage), "{name}");
        assert_eq!(engine.wait(None).unwrap_err(), engine.info().unwrap_err());
    }
}
