//! A table of counters of one's own, filled to the brim; and a server that has none.

#[pgrx::pg_schema]
mod tests {
    use crate::pg::shared_memory::Shareable;
    use crate::session::counts::Done;
    use crate::session::undo::Journal;
    use crate::stats::Counter;
    use crate::stats::Tally;
    use crate::stats::samples::Sample;
    use crate::stats::samples::Samples;
    use crate::stats::table::Counts;
    use crate::stats::table::Name;
    use crate::stats::table::OTHER;
    use crate::stats::table::ROWS_PER_DATABASE;
    use crate::stats::table::Table;
    use crate::stats::visits::{CAPACITY, Report, Visit, Visits};
    use pgrx::prelude::*;
    use rules::observe::Observed;
    use std::rc::Rc;
    use std::time::Instant;

    const MINE: u32 = 1;

    /// As the server sets it aside.
    fn zeroed<T: Shareable>() -> Box<T> {
        // SAFETY: zeros are a value of every type that is `Shareable`.
        unsafe { Box::<T>::new_zeroed().assume_init() }
    }

    fn count(table: &Table, database: u32, name: &str) {
        let row = table.row(database, &Name::new(name.as_bytes()));
        table.count(row.expect("there is room"), Counter::Claimed, 1);
    }

    fn claimed(table: &Table, database: u32, name: &[u8]) -> Option<u64> {
        let rows = table.of_database(database);
        let row = rows.iter().find(|(there, _)| there == name);
        row.map(|(_, counts): &(_, Counts)| counts[Counter::Claimed as usize])
    }

    #[pg_test]
    fn a_name_beyond_the_room_of_its_database_is_counted_as_other() {
        let table = zeroed::<Table>();
        for n in 0..ROWS_PER_DATABASE {
            count(&table, MINE, &format!("op {n}"));
        }
        assert_eq!(claimed(&table, MINE, OTHER), None);
        count(&table, MINE, "one more");
        count(&table, MINE, "and another");
        count(&table, MINE, "op 0");
        assert_eq!(claimed(&table, MINE, OTHER), Some(2));
        assert_eq!(claimed(&table, MINE, b"one more"), None);
        assert_eq!(claimed(&table, MINE, b"op 0"), Some(2));
        // Others have room.
        count(&table, MINE + 1, "one more");
        assert_eq!(claimed(&table, MINE + 1, b"one more"), Some(1));
        assert_eq!(claimed(&table, MINE + 1, OTHER), None);
    }

    #[pg_test]
    fn in_a_full_table_databases_are_counted_as_other_until_that_is_full_too() {
        let table = zeroed::<Table>();
        let mut databases = 0;
        while table.row(MINE + databases, &Name::new(OTHER)).is_some() {
            let names = if databases < 10 { ROWS_PER_DATABASE } else { 1 };
            for n in 0..names {
                count(&table, MINE + databases, &format!("op {n}"));
            }
            databases += 1;
        }
        assert!(databases > 100, "only {databases} databases have a row");
        assert_eq!(table.row(MINE + databases, &Name::new(b"op 0")), None);
        // What is given back is there for the next.
        table.free(&[MINE]);
        count(&table, MINE + databases, "op 0");
        assert_eq!(claimed(&table, MINE + databases, b"op 0"), Some(1));
    }

    #[pg_test]
    fn freed_rows_are_counted_anew_from_zero() {
        let table = zeroed::<Table>();
        count(&table, MINE, "kept");
        count(&table, MINE + 1, "freed");
        assert_eq!(table.databases(), [MINE, MINE + 1]);
        table.free(&[MINE + 1]);
        assert_eq!(table.databases(), [MINE]);
        assert_eq!(claimed(&table, MINE + 1, b"freed"), None);
        assert_eq!(claimed(&table, MINE, b"kept"), Some(1));
        count(&table, MINE + 1, "freed");
        assert_eq!(claimed(&table, MINE + 1, b"freed"), Some(1));
    }

    #[pg_test]
    fn who_remembers_a_freed_row_looks_for_it_anew() {
        let table = zeroed::<Table>();
        let (first, second) = (Tally::new(b"first"), Tally::new(b"second"));
        first.add_in(&table, Counter::Claimed, 1);
        let mine = table.databases();
        table.free(&mine);
        // Takes the row that the first had.
        second.add_in(&table, Counter::Claimed, 10);
        first.add_in(&table, Counter::Claimed, 100);
        assert_eq!(claimed(&table, mine[0], b"first"), Some(100));
        assert_eq!(claimed(&table, mine[0], b"second"), Some(10));
    }

    #[pg_test]
    fn names_are_told_apart_in_full() {
        let table = zeroed::<Table>();
        let names = ["a", "ab", "a\0", &"x".repeat(255), &"x".repeat(254), &"ü".repeat(127)];
        for (n, name) in (1..).zip(names) {
            for _ in 0..n {
                count(&table, MINE, name);
            }
        }
        for (n, name) in (1..).zip(names) {
            assert_eq!(claimed(&table, MINE, name.as_bytes()), Some(n), "{name:?}");
        }
    }

    /// A block with an exception handler in a loop is a subtransaction for each key.
    #[pg_test]
    fn a_transaction_of_many_subtransactions_keeps_few_entries() {
        let tallies = ["one", "another"].map(|name| Rc::new(Tally::new(name.as_bytes())));
        let mut pending = Journal::default();
        for subtransaction in 2..1_000 {
            for tally in &tallies {
                pending.add(subtransaction, Done::new(tally, Counter::Completed, 1));
                pending.add(subtransaction, Done::new(tally, Counter::Executed, 1));
            }
            pending.add_up(subtransaction, 1);
        }
        assert_eq!(pending.drain().count(), 4);
    }

    #[pg_test]
    fn every_counter_has_its_own_place() {
        for (place, (counter, name)) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, place, "{name}");
        }
    }

    #[pg_test]
    fn a_wait_belongs_to_the_first_that_is_not_shorter() {
        let waits = [
            (0, Counter::Waited1ms),
            (1_000, Counter::Waited1ms),
            (1_001, Counter::Waited3ms),
            (300_000, Counter::Waited300ms),
            (300_001, Counter::Waited1s),
            (30_000_000, Counter::Waited30s),
            (30_000_001, Counter::WaitedLonger),
            (i64::MAX, Counter::WaitedLonger),
        ];
        for (waited, counter) in waits {
            assert_eq!(Counter::of_wait(waited), counter, "{waited}");
        }
    }

    /// Says in the server's log what it costs; how fast the machine is, is no matter of tests.
    #[pg_test]
    fn a_million_counts_cost_what_the_log_says() {
        const TIMES: u64 = 1_000_000;
        let nanos =
            |began: Instant, times: usize| began.elapsed().as_secs_f64() * 1e9 / times as f64;
        let table = zeroed::<Table>();
        let tally = Tally::new(b"op");
        tally.add_in(&table, Counter::Claimed, 1);
        let began = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(&tally).add_in(&table, Counter::Claimed, 1);
        }
        let known = nanos(began, TIMES as usize);
        let began = Instant::now();
        for n in 1..ROWS_PER_DATABASE {
            Tally::new(n.to_string().as_bytes()).add_in(&table, Counter::Claimed, 1);
        }
        let new = nanos(began, ROWS_PER_DATABASE);
        let began = Instant::now();
        for n in 0..ROWS_PER_DATABASE {
            Tally::new(format!("other {n}").as_bytes()).add_in(&table, Counter::Claimed, 1);
        }
        let other = nanos(began, ROWS_PER_DATABASE);
        pgrx::log!(
            "nanoseconds a count: {known:.1}; first of an operation {new:.0}, without room {other:.0}"
        );
        let mine = table.databases();
        assert_eq!(claimed(&table, mine[0], b"op"), Some(TIMES + 1));
    }

    #[pg_test]
    fn without_preload_nothing_is_counted_and_everything_else_works() {
        Spi::run("SELECT idempotent_claim('t', 'k'), idempotent_complete('t', 'k', '1')")
            .expect("runs");
        let rows = Spi::get_one::<i64>("SELECT count(*) FROM idempotent.stats");
        assert_eq!(rows.expect("runs"), Some(0));
        let preloaded = Spi::get_one::<bool>("SELECT preloaded FROM idempotent.health");
        assert_eq!(preloaded.expect("runs"), Some(false));
        let held = "SELECT count(*) FROM idempotent.in_flight WHERE pid = pg_backend_pid()";
        assert_eq!(Spi::get_one::<i64>(held).expect("runs"), Some(1));
        let backlog = Spi::get_one::<i64>("SELECT count(*) FROM idempotent.backlog");
        assert_eq!(backlog.expect("runs"), Some(8));
    }

    #[pg_test(error = "no statistics are kept")]
    fn without_preload_there_is_nothing_to_reset() {
        Spi::run("SELECT idempotent_stats_reset()").expect("runs");
    }

    const PARTS: [&[u8]; 3] = [b"op", b"scope", b"key"];

    fn keys(samples: &Samples, database: u32, observed: Observed) -> Vec<String> {
        let of = samples.of_database(database).into_iter().filter(|s| s.observed == observed);
        of.map(|sample| String::from_utf8_lossy(&sample.key).into_owned()).collect()
    }

    #[pg_test]
    fn an_example_comes_back_as_it_was_kept() {
        let samples = zeroed::<Samples>();
        assert_eq!(samples.of_database(MINE), []);
        assert_eq!(samples.of_database(0), []);
        samples.keep(MINE, Observed::Mismatch, 7, PARTS);
        let [operation, scope, key] = PARTS.map(<[u8]>::to_vec);
        let kept = Sample { observed: Observed::Mismatch, at: 7, operation, scope, key };
        assert_eq!(samples.of_database(MINE), [kept]);
        assert_eq!(samples.of_database(MINE + 1), []);
        let (long, longer) = ([b'x'; 255], [b'x'; 300]);
        samples.keep(MINE, Observed::BadKey, 8, [&longer, &long, &longer]);
        let latest = samples.of_database(MINE).remove(0);
        assert_eq!((latest.operation.len(), latest.scope.len(), latest.key.len()), (255, 255, 255));
        samples.forget(|database| database == MINE);
        assert_eq!(samples.of_database(MINE), []);
    }

    #[pg_test]
    fn an_example_that_is_cut_ends_with_a_whole_letter() {
        let samples = zeroed::<Samples>();
        for letter in ["é", "€", "😀"] {
            for before in ["", "x"] {
                let key = format!("{before}{}", letter.repeat(200));
                samples.keep(MINE, Observed::BadKey, 0, [b"op", b"", key.as_bytes()]);
                let latest = keys(&samples, MINE, Observed::BadKey).remove(0);
                assert!(key.starts_with(&latest) && latest.len() > 251, "{latest}");
                samples.forget(|database| database == MINE);
            }
        }
    }

    #[pg_test]
    fn a_flood_of_one_kind_leaves_the_examples_of_others() {
        let samples = zeroed::<Samples>();
        samples.keep(MINE, Observed::Mismatch, 0, PARTS);
        samples.keep(MINE + 1, Observed::Duplicate, 0, PARTS);
        for at in 0..10_000 {
            samples.keep(MINE, Observed::Duplicate, at, [b"op", b"", at.to_string().as_bytes()]);
        }
        let latest: Vec<String> = (9_992..10_000).rev().map(|at: i64| at.to_string()).collect();
        assert_eq!(keys(&samples, MINE, Observed::Duplicate), latest);
        assert_eq!(keys(&samples, MINE, Observed::Mismatch), ["key"]);
        assert_eq!(keys(&samples, MINE + 1, Observed::Duplicate), ["key"]);
    }

    #[pg_test]
    fn an_example_is_whole_whoever_writes_at_the_same_time() {
        let samples = zeroed::<Samples>();
        let texts: Vec<Vec<u8>> = (b'a'..b'e').map(|letter| vec![letter; 200]).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                let samples = &samples;
                scope.spawn(move || {
                    for at in 0..20_000 {
                        samples.keep(MINE, Observed::Duplicate, at, [b"op", text, text]);
                    }
                });
            }
            for _ in 0..2_000 {
                for sample in samples.of_database(MINE) {
                    assert_eq!(sample.scope, sample.key);
                    assert!(texts.contains(&sample.key));
                }
            }
        });
    }

    fn database(number: usize) -> pg_sys::Oid {
        pg_sys::Oid::from(u32::try_from(number + 1).expect("a small number"))
    }

    #[pg_test]
    fn databases_beyond_the_last_visit_share_one() {
        let visits: Box<Visits> = zeroed();
        for number in 0..CAPACITY {
            assert!(visits.of(database(number)).is_some(), "{number}");
        }
        let (first, second) = (database(CAPACITY), database(CAPACITY + 1));
        assert!(visits.of(first).is_none() && visits.of(second).is_none());

        let shared = visits.share(first).expect("it is free");
        shared.begin();
        // The sweeper finds it by its database, and nobody else gets it meanwhile.
        assert!(visits.of(first).is_some_and(|found| std::ptr::eq(found, shared)));
        assert!(visits.share(second).is_none() && visits.of(second).is_none());
        shared.end(Report::Failed);
        visits.close(shared);
        assert!(visits.of(first).is_none());
        assert_eq!(
            visits.share(second).map(Visit::failures),
            Some(0),
            "of the first nothing is left"
        );
    }

    #[pg_test]
    fn a_visit_that_is_not_shared_stays_with_its_database() {
        let visits: Box<Visits> = zeroed();
        let mine = visits.of(database(0)).expect("room");
        mine.begin();
        mine.end(Report::Failed);
        visits.close(mine);
        assert_eq!(visits.of(database(0)).map(Visit::failures), Some(1));
        visits.keep_only(|there| there != database(0));
        assert_eq!(visits.of(database(0)).map(Visit::failures), Some(0));
    }
}
