//! Compares a kernel that was built with the objects and the compiler cache of earlier builds with one that was built
//! without them. A difference means that one of these caches is damaged, for example by a hostile Makefile.

use fsx::own;
use fsx::untrusted::{Dir, Scratch};

use crate::blocking::blocking;
use crate::boot_image::image_of;
use crate::cache::Cache;
use crate::compile::Compilation;
use crate::copy::copy_file;
use crate::error::{BuildError, CompileError, InfrastructureError};
use crate::make::{Layout, Make};
use crate::plan::BuildPlan;
use crate::progress::Progress;
use crate::request::BuildRequest;
use crate::store::Meta;
use crate::tree::BuildTree;

/// The maximum size of an image, in bytes.
const IMAGE_BYTES: u64 = 4 << 30;

/// Builds the kernel of `make` again from scratch. If the image differs from that of `meta`, removes the objects and
/// the compiler cache, so that the next attempt is a clean build, and returns
/// [`InfrastructureError::CachedBuildDiffers`].
pub(crate) async fn compare(
    request: &BuildRequest,
    cache: &Cache,
    plan: &BuildPlan,
    make: &Make,
    tree: &BuildTree,
    meta: &Meta,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), BuildError> {
    let objects = tree.empty_objects().await?;
    let layout = Layout::new(&make.layout.src, &objects, make.sandbox.is_some());
    let clean_make = Make { layout, use_ccache: false, ..make.clone() };
    let log = request.out_log.with_extension("clean.log");
    let clean_request = BuildRequest { out_log: log.clone(), ..request.clone() };
    let compilation = Compilation { request: &clean_request, plan, make: &clean_make };
    let compiled = match compilation.run(on).await {
        Ok(compiled) => Ok(compiled),
        Err(CompileError::Other(error)) => return Err(error),
        Err(CompileError::Failed { reason, .. }) => Err(reason),
    };
    let clean = match compiled {
        Ok(compiled) => {
            let (_, image) = image_of(make.toolchain.arch, &compiled.config);
            let dir = Scratch::new_in(&cache.dir, ".verify-").map_err(InfrastructureError::io(&cache.dir))?;
            let hash = move || -> Result<String, CompileError> {
                let copy = dir.path().join("image");
                copy_file(&Dir::open(&objects.dir)?, image.as_ref(), &copy, IMAGE_BYTES)?;
                Ok(fsx::digest::file(&copy)?)
            };
            match blocking("hashing the image", hash).await? {
                Ok(hash) => hash,
                Err(CompileError::Failed { reason, .. }) => reason,
                Err(CompileError::Other(error)) => return Err(error),
            }
        }
        Err(reason) => reason,
    };
    drop(tree.empty_objects().await?);
    if clean == meta.image_hash {
        tracing::info!(flavor = plan.flavor, "the kernel is the same as one from a clean build");
        return Ok(());
    }
    let written = make.base_ccache.as_ref().filter(|base| base.writable).map(|base| base.dir.clone());
    let dirs = [make.layout.obj.clone(), make.ccache.clone()].into_iter().chain(written);
    let dirs: Vec<_> = dirs.collect();
    let remove = move || dirs.iter().try_for_each(|dir| own::remove_tree(dir).map(drop));
    blocking("removing the objects and the compiler cache", remove).await??;
    let cached = meta.image_hash.clone();
    tracing::error!(flavor = plan.flavor, cached, clean, "the cached build differs from a clean one");
    Err(InfrastructureError::CachedBuildDiffers { flavor: plan.flavor.clone(), cached, clean }.into())
}
