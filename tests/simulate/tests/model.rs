//! The model keeps its promises, and each fault that is planted in it is noticed. No server.

use simulate::ledger::Rule;
use simulate::plan::Plan;
use simulate::plant::Plant;
use simulate::world::World;

fn played(seed: u64, plant: Option<Plant>) -> World {
    let mut world = World::new(Plan { seed, ..Plan::short() }, plant);
    world.run();
    world
}

#[test]
fn no_key_has_a_second_effect() {
    for seed in 1..3 {
        let world = played(seed, None);
        let broken: Vec<_> = world.ledger.violations().collect();
        assert!(broken.is_empty(), "seed {seed}: {broken:?}");
        // What never happened proves nothing.
        let figures = &world.figures;
        let seen = [
            figures.replays,
            figures.refused,
            figures.unreachable,
            figures.unknown,
            figures.expired,
            figures.fences_refused,
            figures.swept,
            figures.crashes,
            figures.failovers,
            figures.lost_nodes,
            figures.moves,
            world.ledger.excused,
        ];
        assert!(seen.iter().all(|times| *times > 0), "seed {seed}: {seen:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let told = |seed| {
        let mut world = World::new(Plan { seed, rate: 8_000, ..Plan::short() }, None);
        world.run();
        format!("{}", world.figures)
    };
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}

#[test]
fn every_planted_fault_is_noticed() {
    for (name, plant) in Plant::ALL {
        let rule = match plant {
            Plant::FencesStay => Rule::Fence,
            _ => Rule::SecondEffect,
        };
        let noticed = (1..6).any(|seed| played(seed, Some(plant)).ledger.breaks(rule));
        assert!(noticed, "{name} is not noticed");
    }
}
