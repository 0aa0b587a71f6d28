"""Published formulas in float64, where diffusers 0.42.1 computes something else.

Each class stands in for a diffusers scheduler: `timesteps`, `alphas_cumprod`, `sigmas`, and `step`,
which takes and returns numpy arrays in the variance-preserving scale. Nothing here is shared with the
library under test.
"""

import numpy as np


def laplace_betas(length):
    """Hang et al. 2024, "Improved noise schedule for diffusion training", table 1: the log SNR is
    -b sgn(0.5 - t) ln(1 - 2 |t - 0.5|) with b = 0.5, and alpha_bar its logistic function. (diffusers
    takes the square root of that for alpha_bar; its 1e-6, which keeps the ends finite, is taken over.)
    """
    t = np.arange(length + 1) / length
    log_snr = -0.5 * np.sign(0.5 - t) * np.log(1 - 2 * np.abs(t - 0.5) + 1e-6)
    alpha_bar = 1 / (1 + np.exp(-log_snr))
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


def alphas_cumprod(config):
    length = config["num_train_timesteps"]
    if config["beta_schedule"] == "linear":
        betas = np.linspace(config["beta_start"], config["beta_end"], length)
    elif config["beta_schedule"] == "squaredcos_cap_v2":  # Nichol and Dhariwal 2021, eq. 17
        f = np.cos((np.arange(length + 1) / length + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    else:
        raise ValueError(config["beta_schedule"])
    return np.cumprod(1 - betas)


class Ddpm:
    """Ho et al. 2020, algorithm 2, for the variances that diffusers gets wrong: it takes the square
    root of the logarithm for fixed_large_log, and reads `learned` outputs as variances where
    improved-diffusion, which defined them, has their logarithms (gaussian_diffusion.py,
    `ModelVarType.LEARNED`).
    """

    def __init__(self, config, steps):
        self.config, self.alphas_cumprod = config, alphas_cumprod(config)
        stride = config["num_train_timesteps"] // steps
        self.timesteps = np.arange(steps)[::-1] * stride

    def step(self, model_output, t, x, draw):
        k = list(self.timesteps).index(t)
        is_last = k + 1 == len(self.timesteps)
        a = self.alphas_cumprod[t]
        a_prev = 1.0 if is_last else self.alphas_cumprod[self.timesteps[k + 1]]
        alpha, beta = a / a_prev, 1 - a / a_prev
        epsilon, v = model_output[:, : x.shape[1]], model_output[:, x.shape[1] :]
        x0 = np.clip((x - np.sqrt(1 - a) * epsilon) / np.sqrt(a), -1, 1)
        # Eq. 7.
        mean = np.sqrt(a_prev) * beta / (1 - a) * x0 + np.sqrt(alpha) * (1 - a_prev) / (1 - a) * x
        if is_last:
            return mean, x0
        log_variance = {"fixed_large_log": np.log(beta), "learned": v}[self.config["variance_type"]]
        return mean + np.exp(0.5 * log_variance) * draw(x.shape), x0


class DpmppSde3m:
    """DPM-Solver++(3M) SDE as k-diffusion has it (`sample_dpmpp_3m_sde` with eta 1). In diffusers the
    last 0.5 of the third-order coefficient has the wrong sign: it tends to -1 as h tends to 0, where
    the term has to vanish.
    """

    def __init__(self, config, steps):
        self.alphas_cumprod = alphas_cumprod(config)
        last = config["num_train_timesteps"] - 1
        # Of one timestep more, the lowest is left out: the last step goes to the clean sample.
        self.timesteps = np.linspace(0, last, steps + 1).round()[::-1][:-1].astype(int)
        a = self.alphas_cumprod[self.timesteps]
        self.sigmas = np.append(np.sqrt((1 - a) / a), 0.0)
        self.history = []  # (lambda, x0), newest last

    def step(self, model_output, t, x, draw):
        k = list(self.timesteps).index(t)
        sigma, sigma_next = self.sigmas[k], self.sigmas[k + 1]
        alpha, alpha_next = 1 / np.sqrt(1 + sigma**2), 1 / np.sqrt(1 + sigma_next**2)
        x0 = x / alpha - sigma * model_output
        self.history.append((-np.log(sigma), x0))
        noise = draw(x.shape)
        if sigma_next == 0:
            return x0, x0
        # In k-diffusion's scale, x / alpha; s is its lambda, eta 1 makes h_eta = 2 h.
        h = np.log(sigma / sigma_next)
        h_eta = 2 * h
        u = np.exp(-h_eta) * x / alpha - np.expm1(-h_eta) * x0
        # A run of fewer than 15 steps lowers its order at the end, as diffusers' does.
        left = len(self.timesteps) - k if len(self.timesteps) < 15 else 3
        order = min(3, len(self.history), left)
        phi_2 = np.expm1(-h_eta) / h_eta + 1
        (s0, m0), (s1, m1), (s2, m2) = (self.history[::-1] + [(0, 0)] * 2)[:3]
        if order == 2:
            # The midpoint rule, diffusers' default; k-diffusion has phi_2 here too.
            u = u - 0.5 * np.expm1(-h_eta) * (m0 - m1) / ((s0 - s1) / h)
        elif order == 3:
            r0, r1 = (s0 - s1) / h, (s1 - s2) / h
            d1_0, d1_1 = (m0 - m1) / r0, (m1 - m2) / r1
            d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
            d2 = (d1_0 - d1_1) / (r0 + r1)
            phi_3 = phi_2 / h_eta - 0.5
            u = u + phi_2 * d1 - phi_3 * d2
        u = u + sigma_next * np.sqrt(-np.expm1(-h_eta)) * noise
        return alpha_next * u, x0


SCHEDULERS = {"DDPMScheduler": Ddpm, "DPMSolverMultistepScheduler": DpmppSde3m}
