//! Searches every world that can be reached, nearest first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::listeners::Listener;
use crate::world::{Failure, Setting, Step, World};

/// The hash of Firefox, fast and not safe against attacks: there are many worlds, and they are small.
#[derive(Default)]
pub(crate) struct Fx(u64);

impl Hasher for Fx {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) failure: Failure,
    /// A shortest path there. Only read when a test prints it.
    #[allow(dead_code)]
    pub(crate) path: Vec<Step>,
}

pub(crate) struct Search<L> {
    numbers: HashMap<World<L>, usize, BuildHasherDefault<Fx>>,
    /// How each world was first reached: from which world, by which step.
    reached_by: Vec<Option<(usize, Step)>>,
    /// All steps from one world to another, except safety drains.
    steps: Vec<(usize, usize)>,
}

/// Visits every world, nearest first, and returns how many there are.
pub(crate) fn search<L: Listener>(listener: L, setting: &Setting) -> Result<usize, Caught> {
    let mut search = Search {
        numbers: HashMap::default(),
        reached_by: vec![None],
        steps: Vec::new(),
    };
    let first = World::new(listener, setting);
    search.numbers.insert(first.clone(), 0);
    let mut level = vec![(0, first)];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (number, world) in level {
            search
                .visit(number, &world, setting, &mut next_level)
                .map_err(|failure| search.caught(failure, number))?;
        }
        level = next_level;
    }
    match search.on_an_endless_run() {
        Some(number) => Err(search.caught(Failure::Endless, number)),
        None => Ok(search.reached_by.len()),
    }
}

impl<L: Listener> Search<L> {
    fn visit(
        &mut self,
        number: usize,
        world: &World<L>,
        setting: &Setting,
        next_level: &mut Vec<(usize, World<L>)>,
    ) -> Result<(), Failure> {
        world.check()?;
        let mut at_rest = true;
        for (step, next) in world.next(setting)? {
            at_rest &= !step.has_to_happen();
            let next_number = match self.numbers.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let next_number = self.reached_by.len();
                    self.reached_by.push(Some((number, step)));
                    next_level.push((next_number, new.key().clone()));
                    *new.insert(next_number)
                }
            };
            if step != Step::SafetyDrain {
                self.steps.push((number, next_number));
            }
        }
        if at_rest {
            world.check_at_rest()
        } else {
            Ok(())
        }
    }

    /// A world on a run that is endless without safety drains. Removes, again and again, the worlds that
    /// no step leads to; those that remain are on a cycle or behind one.
    fn on_an_endless_run(&self) -> Option<usize> {
        let count = self.reached_by.len();
        let mut leading_here = vec![0_usize; count];
        let mut first_from = vec![0; count + 1];
        for &(from, to) in &self.steps {
            leading_here[to] += 1;
            first_from[from + 1] += 1;
        }
        for number in 0..count {
            first_from[number + 1] += first_from[number];
        }
        let mut free: Vec<usize> = (0..count)
            .filter(|&number| leading_here[number] == 0)
            .collect();
        while let Some(from) = free.pop() {
            // The search visited worlds in the order of their numbers, so their steps are sorted.
            for &(_, to) in &self.steps[first_from[from]..first_from[from + 1]] {
                leading_here[to] -= 1;
                if leading_here[to] == 0 {
                    free.push(to);
                }
            }
        }
        leading_here.iter().position(|&steps| steps > 0)
    }

    fn caught(&self, failure: Failure, mut number: usize) -> Caught {
        let mut path = Vec::new();
        while let Some((from, step)) = self.reached_by[number] {
            path.push(step);
            number = from;
        }
        path.reverse();
        Caught { failure, path }
    }
}
