//! The sample events, compared with those that the code makes.

use tests::world::coded;
use tools::events;

#[test]
fn the_files_are_signed_and_complete() {
    for platform in coded() {
        let mut expected = events::files(platform.name).unwrap();
        expected.sort();
        let folder = events::folder(platform.name);
        let mut found: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
            })
            .collect();
        found.sort();
        let messages = found.iter().filter(|(name, _)| name.ends_with(".sqs.json")).count();
        let handshakes = found.iter().filter(|(name, _)| name.contains("ping.")).count();
        assert!(messages >= 4, "{}", platform.name);
        assert_eq!(found.len() - messages, messages + handshakes, "{}: each but a handshake is proven", platform.name);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "run `make events`");
        }
        assert_eq!(found.len(), expected.len(), "run `make events`");
    }
}
