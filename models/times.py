"""The diffusion times that samplers visit: plain numbers, known without loading anything."""


def ddim_times(num_steps: int, total: int = 1000) -> list[int]:
    """The times that DDIM visits, falling: every c-th from 1 up, c = total // num_steps (as in ldm).

    There are ceil(total / c) of them, which is more than ``num_steps`` unless it divides ``total``. Raises
    ValueError for counts whose last time would lie beyond the schedule.
    """
    if not 1 <= num_steps <= total:
        raise ValueError(f"DDIM takes between 1 and {total} steps, not {num_steps}")
    stride = total // num_steps
    times = [t + 1 for t in range(0, total, stride)]
    if times[-1] >= total:
        raise ValueError(f"{num_steps} DDIM steps run past a schedule of {total}: take a divisor of {total}")
    return times[::-1]


def dpm_times(num_steps: int, total: int = 1000) -> list[int]:
    """num_steps + 1 times from total - 1 down to 0. Raises ValueError when they would not be distinct."""
    if not 1 <= num_steps < total:
        raise ValueError(f"DPM-Solver++ takes between 1 and {total - 1} steps, not {num_steps}")
    return [round((total - 1) * (1 - i / num_steps)) for i in range(num_steps + 1)]
