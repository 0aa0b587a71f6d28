//! Which class each picture of a folder has: the folder directly below that it lies in.

use std::path::{Component, Path, PathBuf};

use anyhow::{Result, ensure};

/// The classes of images: their names in the order of the labels, and each image's label.
#[derive(Debug, Default, PartialEq)]
pub struct Classes {
    pub names: Vec<String>,
    /// An index into `names` for each image; empty without classes.
    pub labels: Vec<u32>,
}

impl Classes {
    /// Classes of the names `of_images`, a name for each image. The names in `given` fix which there are
    /// and their order, if there are any; else it is that of their first images.
    pub fn of(of_images: &[&str], given: &[String]) -> Result<Self> {
        let mut names = given.to_vec();
        let mut labels = Vec::with_capacity(of_images.len());
        for &name in of_images {
            // Images of a class come together, so the last found is asked first.
            let last = labels.last().map(|&label: &u32| label as usize);
            let found = last.filter(|&at| names[at] == name);
            let label = match found.or_else(|| names.iter().position(|known| known == name)) {
                Some(label) => label,
                None => {
                    ensure!(
                        given.is_empty(),
                        "the folder {name:?} is none of data.class_names, expected {}",
                        given.join(", ")
                    );
                    names.push(name.to_string());
                    names.len() - 1
                }
            };
            labels.push(label as u32);
        }
        let classes = Self { names, labels };
        if let Some(name) = classes.without_images().first() {
            anyhow::bail!("{name:?} of data.class_names has no folder with pictures");
        }
        Ok(classes)
    }

    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The names no image has.
    pub fn without_images(&self) -> Vec<&str> {
        let names = self.names.iter().zip(self.counts());
        names.filter(|(_, count)| *count == 0).map(|(name, _)| name.as_str()).collect()
    }

    /// How many images each class has, in words; with a warning where there is only one.
    pub fn note(&self) -> String {
        let counts: Vec<String> = self
            .names
            .iter()
            .zip(self.counts())
            .map(|(name, count)| format!("{} ({count})", name.replace(char::is_control, " ")))
            .collect();
        match counts.as_slice() {
            [only] => format!("one class only, {only}: what it adds is that it can be left out"),
            _ => format!("{} classes, with images each: {}", counts.len(), counts.join(", ")),
        }
    }
}

/// The class of a file of `folder`: the name of the folder directly below it that the file is in.
pub fn class_of(file: &Path, folder: &Path) -> Result<String> {
    let below = file.strip_prefix(folder).unwrap_or(file);
    let mut parts = below.components();
    let (Some(Component::Normal(class)), Some(_)) = (parts.next(), parts.next()) else {
        anyhow::bail!("in no folder that would be its class (data.classes is true)");
    };
    let name = class.to_str().filter(|name| !name.contains(char::is_control));
    let name = name.ok_or_else(|| anyhow::anyhow!("the folder {class:?} cannot name a class"))?;
    Ok(name.to_string())
}

/// Those of `folders`, names of class folders, that give no image to any class.
pub fn empty<'a>(folders: &'a [PathBuf], classes: &Classes) -> Vec<&'a Path> {
    let used = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default();
        classes.names.iter().any(|class| name == class.as_str())
    };
    folders.iter().map(PathBuf::as_path).filter(|folder| !used(folder)).collect()
}
