//! The distinct shapes of each user, over all its sessions.

use std::collections::HashMap;

use sync_core::shape::Shape;

use crate::auth::Counted;

/// Of each user its shapes, each with the number of its sessions that have it.
#[derive(Debug, Default)]
pub(super) struct UserShapes(HashMap<Counted, HashMap<Shape, usize>>);

impl UserShapes {
    /// Whether a user may have this shape, too, when it may have so many.
    pub(super) fn admits(&self, user: &Counted, shape: &Shape, max: usize) -> bool {
        let shapes = self.0.get(user);
        shapes.is_none_or(|shapes| shapes.len() < max || shapes.contains_key(shape))
    }

    /// One more session of a user has the shape.
    pub(super) fn attach(&mut self, user: &Counted, shape: &Shape) {
        let shapes = self.0.entry(user.clone()).or_default();
        *shapes.entry(shape.clone()).or_default() += 1;
    }

    /// One session of a user has the shape no more.
    pub(super) fn detach(&mut self, user: &Counted, shape: &Shape) {
        let Some(shapes) = self.0.get_mut(user) else {
            return;
        };
        if let Some(sessions) = shapes.get_mut(shape) {
            *sessions -= 1;
            if *sessions == 0 {
                shapes.remove(shape);
            }
        }
        if shapes.is_empty() {
            self.0.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_counts_once_for_all_sessions_of_a_user() {
        let mut shapes = UserShapes::default();
        let user = |name: &str| Counted::User(name.into());
        let (ann, ben) = (user("ann"), user("ben"));
        let [one, two, three] = ["one", "two", "three"].map(Shape::whole);
        for shape in [&one, &one, &two] {
            assert!(shapes.admits(&ann, shape, 2));
            shapes.attach(&ann, shape);
        }
        assert!(!shapes.admits(&ann, &three, 2) && shapes.admits(&ann, &two, 2));
        assert!(shapes.admits(&ben, &three, 2));
        shapes.detach(&ann, &one);
        assert!(!shapes.admits(&ann, &three, 2));
        shapes.detach(&ann, &one);
        assert!(shapes.admits(&ann, &three, 2));
        shapes.detach(&ann, &two);
        assert!(shapes.0.is_empty());
    }
}
