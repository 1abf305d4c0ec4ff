use super::fields;

fn read(body: &str) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields(body.as_bytes()).iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn fields_by_their_names() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("&&", &[]),
        ("b=2&a=1", &[("a", "1"), ("b", "2")]),
        ("a=2&b=0&a=1", &[("a", "2"), ("a", "1"), ("b", "0")]),
        ("a", &[("a", "")]),
        ("a=", &[("a", "")]),
        ("=1", &[("", "1")]),
        ("a=b=c", &[("a", "b=c")]),
        ("a+b=c+d", &[("a b", "c d")]),
        ("a%20b=%C3%a9", &[("a b", "é")]),
        ("a=%26%3D%2B%25", &[("a", "&=+%")]),
        ("a=%&b=%4&c=%zz", &[("a", "%"), ("b", "%4"), ("c", "%zz")]),
        ("a=%+1", &[("a", "% 1")]),
    ];
    for (body, expected) in table {
        let expected: Vec<_> =
            expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(body), expected, "{body}");
    }
}
