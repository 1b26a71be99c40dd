//! Who belongs to the group: one step at a time towards what was asked.
//!
//! The leader keeps the wishes and, whenever no change is under way, takes the next step towards the first that is not
//! true yet. So it makes no difference whether a step was refused, turned into an empty entry, or left half done by a leader
//! that was deposed: what counts is the membership as applied.
//!
//! ```text
//!   Add     nobody ─► learner ─(has caught up)─► joint ─► voter
//!   Remove  member ─► joint ─► nobody
//! ```

use super::Context;
use super::group::Group;
use super::leading::Origin;
use crate::codec::{Answer, Membership};
use crate::input::MembershipChange;
use crate::output::Refusal;
use crate::raft::MembershipStep;

/// Wishes kept; more are asked to come again.
const WISHES_MAX: usize = 16;
/// A learner that lacks no more entries than this becomes a voter.
const PROMOTION_LAG_ENTRIES_MAX: u64 = 100;

impl Group {
    /// A change was asked for.
    pub(super) fn wish_membership(&mut self, context: &mut Context<'_>, origin: Origin, change: MembershipChange) {
        let (Some(meta), Some(leading)) = (&self.meta, &mut self.leading) else { return };
        let answer = if fulfilled(change, &meta.membership) {
            Answer::Done
        } else if let MembershipChange::Remove(node) = change
            && meta.membership.voters == [node]
        {
            Answer::Refused(Refusal::LastVoter)
        } else if leading.wishes.contains(&(change, origin)) {
            return;
        } else if leading.wishes.len() < WISHES_MAX {
            leading.wishes.push((change, origin));
            return;
        } else {
            Answer::Again
        };
        self.answer(context, origin, answer);
    }

    /// Takes the next step, if there is one and none is under way.
    pub(super) fn pursue_membership(&mut self, context: &mut Context<'_>) {
        if !self.in_charge() {
            return;
        }
        let (Some(meta), Some(leading)) = (&self.meta, &mut self.leading) else { return };
        if leading.wishes.is_empty() && meta.membership.learners.is_empty() && !meta.membership.is_joint() {
            return;
        }
        if !leading.wishes.is_empty() {
            let done = leading.wishes.extract_if(.., |(change, _)| fulfilled(*change, &meta.membership));
            let done: Vec<(MembershipChange, Origin)> = done.collect();
            for (_, origin) in done {
                self.answer(context, origin, Answer::Done);
            }
        }
        if self.replica.membership_change_pending() || self.replica.transferring() {
            return;
        }
        match self.next_step() {
            Some(Step::Propose(step)) => {
                // Refused when too much is uncommitted: then at the next input.
                let _ = self.replica.propose_membership(step);
            }
            Some(Step::HandOver) => {
                if let Some(to) = self.best_follower() {
                    self.replica.transfer_leadership(to);
                }
            }
            None => {}
        }
    }

    fn next_step(&self) -> Option<Step> {
        let membership = self.replica.membership();
        if membership.is_joint() {
            // Somebody who stays has to finish it.
            let stays = membership.voters.contains(&self.node);
            return Some(if stays { Step::Propose(MembershipStep::LeaveJoint) } else { Step::HandOver });
        }
        let wish = self.leading.as_ref()?.wishes.iter().map(|(change, _)| *change);
        let mut wish = wish.filter(|change| !fulfilled(*change, &membership));
        match wish.next() {
            Some(MembershipChange::Add(node)) => return Some(Step::Propose(MembershipStep::AddLearner(node))),
            Some(MembershipChange::Remove(node)) if node == self.node => return Some(Step::HandOver),
            Some(MembershipChange::Remove(node)) if membership.voters != [node] => {
                return Some(Step::Propose(MembershipStep::Remove(node)));
            }
            Some(MembershipChange::Remove(_)) | None => {}
        }
        let followers = self.replica.followers();
        let caught_up = followers.iter().find(|follower| {
            membership.learners.contains(&follower.node)
                && follower.recently_active
                && !follower.in_snapshot
                && follower.matched > 0
                && follower.lag_entries <= PROMOTION_LAG_ENTRIES_MAX
        });
        caught_up.map(|follower| Step::Propose(MembershipStep::Promote(follower.node)))
    }
}

enum Step {
    Propose(MembershipStep),
    HandOver,
}

/// Whether a wish has come true.
fn fulfilled(change: MembershipChange, membership: &Membership) -> bool {
    match change {
        MembershipChange::Add(node) => membership.voters.contains(&node) || membership.learners.contains(&node),
        MembershipChange::Remove(node) => !membership.contains(node),
    }
}
