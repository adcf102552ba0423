{
  # refit_math and the kernel sets know nothing of Node: they lack node-addon-api's include path, so `#include <napi.h>` does not compile there.
  "variables": {
    "refit_defines": [],
    "conditions": [
      ["target_arch=='x64'", { "refit_defines": ["REFIT_X64"] }],
      ["target_arch=='arm64'", { "refit_defines": ["REFIT_ARM64"] }]
    ]
  },
  "target_defaults": {
    "defines": ["<@(refit_defines)"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++20", "-O3", "-fexceptions", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++20", "CLANG_CXX_LIBRARY": "libc++", "MACOSX_DEPLOYMENT_TARGET": "12.0",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES", "GCC_SYMBOLS_PRIVATE_EXTERN": "YES", "GCC_OPTIMIZATION_LEVEL": "3",
      "OTHER_CPLUSPLUSFLAGS": ["-ffp-contract=off", "-Wall", "-Wextra"]
    },
    "msvs_settings": { "VCCLCompilerTool": { "ExceptionHandling": 1, "LanguageStandard": "stdcpp20", "AdditionalOptions": ["/std:c++20", "/fp:precise"] } }
  },
  "targets": [
    {
      "target_name": "refit_math",
      "type": "static_library",
      "sources": [
        "src/math/cpu.cpp", "src/math/thread_pool.cpp", "src/math/kernels_scalar.cpp", "src/math/low_rank.cpp", "src/math/convert.cpp",
        "src/container/json_scanner.cpp", "src/container/header.cpp"
      ],
      "conditions": [
        ["target_arch=='x64'", { "dependencies": ["refit_avx2", "refit_avx512"], "export_dependent_settings": ["refit_avx2", "refit_avx512"] }],
        ["target_arch=='arm64'", { "sources": ["src/math/kernels_neon.cpp"] }]
      ]
    },
    {
      "target_name": "refit_native",
      "sources": ["src/bind/addon.cpp", "src/bind/arguments.cpp", "src/bind/async.cpp", "src/bind/header.cpp", "src/bind/kernels.cpp"],
      "dependencies": ["refit_math"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # A thread that is ended while it loads the addon can take no exception any more: without the last one, the whole process aborts.
      "defines": [
        "NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "refit_avx2",
          "type": "static_library",
          "sources": ["src/math/kernels_avx2.cpp"],
          "cflags_cc": ["-mavx2", "-mfma", "-mf16c"],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma", "-mf16c"] },
          "msvs_settings": { "VCCLCompilerTool": { "EnableEnhancedInstructionSet": 5 } }
        },
        {
          "target_name": "refit_avx512",
          "type": "static_library",
          "sources": ["src/math/kernels_avx512.cpp"],
          # GCC 12 warns about the deliberately undefined registers of its own avx512fintrin.h.
          "cflags_cc": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"] },
          "msvs_settings": { "VCCLCompilerTool": { "AdditionalOptions": ["/arch:AVX512"] } }
        }
      ]
    }]
  ]
}
