//! A form as a browser sends it: `application/x-www-form-urlencoded`.

/// The fields of a form, decoded, by their names. Fields of one name stay in their order: it counts, and
/// that of the names does not.
#[must_use]
pub fn fields(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<_> = body
        .split(|&byte| byte == b'&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let end = field.iter().position(|&byte| byte == b'=').unwrap_or(field.len());
            (decode(&field[..end]), decode(field.get(end + 1..).unwrap_or_default()))
        })
        .collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// Without `+` and `%hh`; a `%` that begins no such escape stands for itself.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, escaped(&text[at..])) {
            (b'+', _) => plain.push(b' '),
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 2;
            }
            _ => plain.push(byte),
        }
    }
    plain
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
#[path = "../tests/form.rs"]
mod tests;
