use super::*;

fn parse(entries: &[&str]) -> Result<StoreFailures> {
    StoreFailures::parse(entries)
}

#[test]
fn codes_match_themselves_and_classes_their_codes() {
    let failures = parse(&["P0001", "23", "22012"]).unwrap();
    for sqlstate in ["P0001", "23505", "23000", "23", "22012"] {
        assert!(failures.matches(sqlstate), "{sqlstate}");
    }
    for sqlstate in ["P0002", "P0000", "22000", "22", "2", "", "24000", "p0001"] {
        assert!(!failures.matches(sqlstate), "{sqlstate}");
    }
}

#[test]
fn nothing_is_stored_by_default() {
    let failures = StoreFailures::default();
    assert!(failures.is_empty());
    assert_eq!(parse(&[]), Ok(failures.clone()));
    assert!(!failures.matches("P0001"));
    assert!(!parse(&["P0001"]).unwrap().is_empty());
}

#[test]
fn case_order_and_repetition_do_not_matter() {
    assert_eq!(parse(&["p0001", "23", "P0001"]), parse(&["23", "P0001"]));
    let bytes: [&[u8]; 2] = [b"23", b"p0001"];
    assert_eq!(StoreFailures::parse(bytes), parse(&["23", "P0001"]));
}

#[test]
fn what_means_try_again_is_refused() {
    for entry in [
        "40", "40001", "40P01", "57", "57014", "57P01", "ID", "ID001", "id009", "IDZZZ", "XX",
        "XX000", "08", "08006", "53", "53200", "58", "58030", "55P03", "00", "00000",
    ] {
        let error = parse(&["P0001", entry]).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter, "{entry}");
        assert_eq!(error.message, format!("store_failures cannot hold \"{entry}\""));
        assert!(error.hint.unwrap().contains("'{P0001,23}'"));
    }
}

#[test]
fn what_means_try_again_never_matches() {
    // Class 55 may be named; the one code in it that says "try again" still is not stored.
    let failures = parse(&["55"]).unwrap();
    assert!(failures.matches("55000"));
    assert!(failures.matches("55006"));
    assert!(!failures.matches("55P03"));
    // Not even if the list was never checked.
    let unchecked =
        StoreFailures { entries: vec!["40".to_owned(), "XX000".to_owned(), "ID".to_owned()] };
    for sqlstate in ["40001", "XX000", "ID001"] {
        assert!(!unchecked.matches(sqlstate), "{sqlstate}");
    }
}

#[test]
fn what_is_no_sqlstate_is_refused() {
    for entry in ["", "2", "230", "2300", "230000", "23-05", " 23", "ÄÖ", "P000\n"] {
        let error = parse(&[entry]).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter, "{entry:?}");
        assert!(error.detail.unwrap().contains("five characters"));
        assert!(!error.message.contains('\n'));
    }
    assert!(StoreFailures::parse([b"\xff\xff"]).is_err());
}
