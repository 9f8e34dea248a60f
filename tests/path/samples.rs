//! The sample events are what the code would make of them.

use tests::world::PLATFORM;
use tools::events;

#[test]
fn the_files_are_signed_and_complete() {
    let mut expected = events::files(PLATFORM).unwrap();
    expected.sort();
    let mut found: Vec<_> = std::fs::read_dir(events::folder(PLATFORM))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    assert_eq!(found.iter().filter(|(name, _)| !name.ends_with(".sqs.json")).count(), 16);
    assert_eq!(found.iter().filter(|(name, _)| name.ends_with(".sqs.json")).count(), 15);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "run `make events`");
    }
    assert_eq!(found.len(), expected.len(), "run `make events`");
}
