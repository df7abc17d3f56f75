//! Messages that could not be stored as orders.

use rushgate::store::DeadLetter;

use super::rig::Rig;

async fn kept(rig: &Rig, bodies: &[&[u8]]) -> Vec<DeadLetter> {
    rig.store.migrate().await.unwrap();
    for body in bodies {
        rig.store.keep_dead_letter("3", "it is odd: 票", body).await.unwrap();
    }
    rig.store.dead_letters(0, 1000).await.unwrap()
}

pub(super) async fn dead_letters_are_kept_byte_by_byte(rig: &Rig) {
    let every: Vec<u8> = (0..=255).collect();
    let letters = kept(rig, &[&every, b"", &every]).await;
    assert_eq!(letters.iter().map(|letter| letter.body.as_slice()).collect::<Vec<_>>(), [&every[..], b"", &every]);
    assert!(letters.is_sorted_by_key(|letter| letter.id));
    let DeadLetter { id, lane, reason, kept_at, bytes, .. } = &letters[2];
    assert_eq!((lane.as_str(), reason.as_str(), *bytes), ("3", "it is odd: 票", 256));
    assert!(*kept_at >= rig.start && letters[2].is_whole(), "{kept_at}");
    assert_eq!(rig.store.dead_letter(*id).await.unwrap().as_ref(), Some(&letters[2]));
}

pub(super) async fn a_walk_through_dead_letters_goes_on_where_it_was(rig: &Rig) {
    let letters = kept(rig, &[b"1", b"2", b"3", b"4"]).await;
    let page = rig.store.dead_letters(letters[0].id, 2).await.unwrap();
    assert_eq!(page, letters[1..3]);
    assert_eq!(rig.store.dead_letters(letters[3].id, 2).await.unwrap(), []);
    assert_eq!(rig.store.dead_letters(u64::MAX, 2).await.unwrap(), []);
    assert_eq!(rig.store.dead_letters(0, 0).await.unwrap(), []);
}

pub(super) async fn a_list_of_dead_letters_has_only_the_beginning_of_a_long_one(rig: &Rig) {
    let long = vec![7; 8 * 1024 * 1024];
    let letters = kept(rig, &[&long]).await;
    assert_eq!((letters[0].body.len(), letters[0].bytes), (DeadLetter::HEAD, long.len() as u64));
    assert!(!letters[0].is_whole());
    let whole = rig.store.dead_letter(letters[0].id).await.unwrap().unwrap();
    assert!(whole.is_whole() && whole.body == long);
}

pub(super) async fn a_dead_letter_is_dropped_once_and_its_id_is_not_used_again(rig: &Rig) {
    let letters = kept(rig, &[b"1", b"2"]).await;
    assert_eq!(rig.store.count_dead_letters().await.unwrap(), 2);
    let last = letters[1].id;
    assert!(rig.store.drop_dead_letter(last).await.unwrap());
    assert!(!rig.store.drop_dead_letter(last).await.unwrap());
    assert_eq!(rig.store.dead_letter(last).await.unwrap(), None);
    assert_eq!(rig.store.count_dead_letters().await.unwrap(), 1);
    let again = kept(rig, &[b"3"]).await;
    assert!(again[1].id > last, "{again:?}");
}

pub(super) async fn long_words_about_a_dead_letter_are_cut(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.store.keep_dead_letter(&"l".repeat(100), &"票".repeat(2000), b"x").await.unwrap();
    let letter = rig.store.dead_letters(0, 1).await.unwrap().remove(0);
    assert_eq!((letter.lane, letter.reason), ("l".repeat(64), "票".repeat(1000)));
}
