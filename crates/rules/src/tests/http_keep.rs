use super::Keep::{Complete, Fail, Release};
use super::{StoreRules, final_status, has_body, status_of_unnamed};

fn rules(entries: &[&str]) -> StoreRules {
    StoreRules::parse(entries).unwrap()
}

#[test]
fn by_default() {
    let rules = StoreRules::default();
    for status in 200..600 {
        let keep = match status {
            200..=399 => Complete,
            401 | 403 | 407 | 408 | 409 | 421 | 423 | 425 | 429 | 500.. => Release,
            _ => Fail,
        };
        assert_eq!(rules.keep(status), keep, "{status}");
    }
}

#[test]
fn an_operation_says_otherwise() {
    let rules = rules(&["4xx=complete", "409=fail", " 5XX = Fail ", "503=release", "201=release"]);
    for (status, keep) in [
        (400, Complete),
        (401, Complete),
        (409, Fail),
        (500, Fail),
        (503, Release),
        (200, Complete),
        (201, Release),
    ] {
        assert_eq!(rules.keep(status), keep, "{status}");
    }
}

#[test]
fn entries_that_mean_nothing() {
    for entry in [
        "",
        "409",
        "409=",
        "409=keep",
        "=fail",
        "xx=fail",
        "1xx=fail",
        "6xx=fail",
        "44xx=fail",
        "100=fail",
        "600=fail",
        "+40=fail",
        "4x=fail",
        "409=fail=fail",
    ] {
        let error = StoreRules::parse([entry]).unwrap_err();
        assert_eq!(error.code.sqlstate(), "22023", "{entry}");
    }
    assert!(StoreRules::parse(["409=fail", "409=complete"]).is_err());
    assert!(StoreRules::parse([b"\xff"]).is_err());
}

#[test]
fn a_final_status() {
    for good in [200, 204, 304, 418, 599] {
        assert_eq!(final_status(Some(good)).unwrap(), u16::try_from(good).unwrap());
    }
    for bad in [
        None,
        Some(-1),
        Some(0),
        Some(99),
        Some(100),
        Some(101),
        Some(103),
        Some(199),
        Some(600),
        Some(70_000),
    ] {
        assert_eq!(final_status(bad).unwrap_err().code.sqlstate(), "22023", "{bad:?}");
    }
}

#[test]
fn answers_without_a_body() {
    let without: Vec<u16> = (200..600).filter(|status| !has_body(*status)).collect();
    assert_eq!(without, [204, 205, 304]);
    assert_eq!(status_of_unnamed(false, true), 200);
    assert_eq!(status_of_unnamed(false, false), 204);
    assert_eq!(status_of_unnamed(true, false), 400);
}
