# %% [markdown]
# # Exploring an output folder
#
# A notebook as a plain script: open it in an editor that knows `# %%` cells, or run it whole:
#
#     python examples/explore_run.py OUT
#
# It needs the extra `notebook` (pandas and xarray). `OUT` is the folder or URL given to `nvds run --out`.

# %%
import sys

import numpy as np

import storage

run = storage.open_run(sys.argv[1] if len(sys.argv) > 1 else "demo-out")

# %% [markdown]
# ## The table of videos
#
# One row per video, failed ones too: a pandas frame, so everything pandas can do is there.

# %%
videos = run.videos
print(videos.groupby(["status", "reason"], dropna=False).size().rename("videos"))

# %% [markdown]
# Which videos still flicker? OPW is an error: lower is steadier. The ratio says what the stabiliser left of it.

# %%
if "opw_mix" in videos:
    ratio = (videos.opw_mix / videos.opw_initial).rename("ratio")
    print(videos[["frames", "opw_initial", "opw_mix"]].join(ratio).nlargest(5, "opw_mix"))

# %% [markdown]
# ## One volume
#
# A lazy xarray dataset with named dimensions, coordinates and units. Nothing is read until `.compute()` or `.values`,
# and then only what is needed, so a volume may be larger than memory and may lie in an object store.

# %%
video_id, volume = next(run.volumes())
print(volume)

# %% [markdown]
# Values are disparity up to one unknown scale and shift, near is large; they are no distances. The units say so.

# %%
result = "mix" if "mix" in volume else "initial"
disparity = volume[result]
print(disparity.attrs)

# %% [markdown]
# How much of the range does the median wander over time? Per frame, and how much of it within each scene.

# %%
level = disparity.median(dim=("y", "x")).compute()
span = float(disparity.max() - disparity.min())
print((level.groupby("scene").std() / span).rename("median disparity, standard deviation / range"))

# %% [markdown]
# One pixel column over time (what the report calls a time slice): steady videos have smooth rows.

# %%
column = disparity.isel(x=disparity.sizes["x"] // 2)
jumps = np.abs(column.diff("t")).mean("y").where(volume.scene.diff("t") == 0).compute()
print(f"largest change between neighbours at frame {int(jumps.idxmax())}, {float(jumps.max()) / span:.4f} of the range")

# %% [markdown]
# From here on it is xarray: `disparity.sel(t=slice(0, 10)).mean("t").plot()`, `volume.to_netcdf(...)`, or the values
# as NumPy with `disparity.values`.
