//! Settings that presets of several families share.
//!
//! Settings of our own are marked as ours, with the run that chose them; nothing here is chosen on test images.

use cil_data::exemplars::Budget;
use cil_train::methods::{
    self, Family, Lengths, Method, both_teachers_maps, with_adversarial, with_dtid, with_new_images_unshared,
};
use cil_train::recipe::{NewReplaySpec, NewTeacherSpec, Recipe};
use dtid::dual::{DtidConfig, DualForm};

use super::method::{MethodName, Teachers};

/// Methods that have presets in every protocol of short runs.
pub(super) fn methods() -> Vec<MethodName> {
    methods::ALL.iter().flat_map(|it| MethodName::listed(it, &methods::Listed::All)).collect()
}

/// Methods that have presets in the protocols of a family.
pub(super) fn methods_in(family: Family) -> Vec<MethodName> {
    let of = |it: &&'static Method| {
        let presets = it.presets_in(family);
        presets.map_or(Vec::new(), |presets| MethodName::listed(it, &presets.listed))
    };
    methods::ALL.iter().flat_map(of).collect()
}

/// The recipe of a method.
pub(super) fn recipe(method: &MethodName, lengths: &Lengths) -> Recipe {
    let base = method.base;
    let exemplars = method.exemplars.map_or(lengths.exemplars, Budget::PerClass);
    let mut recipe = (base.recipe)(&Lengths { exemplars, ..lengths.clone() });
    if let Some(schemes) = &base.schemes {
        if let (true, Some(own_maps)) = (method.replace, &schemes.own_maps) {
            recipe = (own_maps.without)(recipe);
        }
        if method.replay {
            recipe = (schemes.replay)(recipe, lengths.replay());
        }
        if method.adversarial {
            recipe = with_adversarial(recipe, lengths.synthetic);
        }
        if let Some(teachers) = method.teachers {
            let training = lengths.new_teacher.clone();
            let spec = NewTeacherSpec { from_old: true, exemplars: false, training };
            let vid = (teachers == Teachers::LogitsAndMaps).then(|| both_teachers_maps(1.0));
            recipe = with_dtid((schemes.before_two_teachers)(recipe), spec, 1.0, two_teachers(), vid);
        }
    }
    if let Some(spec) = method.head.spec {
        recipe.discriminant = Some(spec());
    }
    if method.unshared {
        let (inversion, images_per_class) = (lengths.inversion.clone(), lengths.images_per_class);
        recipe = with_new_images_unshared(recipe, NewReplaySpec { inversion, images_per_class });
    }
    recipe
}

/// Each teacher on its own columns, temperature 2 (LwF's), equal weights.
fn two_teachers() -> DtidConfig {
    DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } }
}
