# What `cmake --install` puts where: the program, the static library with its public headers and pkg-config file, manual pages,
# completion scripts, licence and documentation. Included by the top CMakeLists.txt.

install(TARGETS offsite_core ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/offsite DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

# The library is static only, so a program that uses it links its libraries too: Libs, not Libs.private.
if(OFFSITE_PTHREADS)
  set(OFFSITE_PC_LIBS "-pthread -lm")
else()
  set(OFFSITE_PC_LIBS "-L${OPENBLAS_DIR} -Wl,-rpath,${OPENBLAS_DIR} -lopenblas -ldnnl ${OpenMP_C_FLAGS} -pthread -lm")
endif()
# Relative, so that `cmake --install --prefix` and packages that are moved stay right.
file(RELATIVE_PATH OFFSITE_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
list(JOIN OFFSITE_MODULES " " OFFSITE_PC_MODULES)
configure_file(cmake/offsite.pc.in offsite.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/offsite.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

file(GLOB WRITTEN_PAGES_1 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.1)
file(GLOB WRITTEN_PAGES_3 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.3)
file(GLOB WRITTEN_PAGES_7 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.7)
install(FILES ${WRITTEN_PAGES_1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${WRITTEN_PAGES_3} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES ${WRITTEN_PAGES_7} DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)

if(TARGET offsite)
  install(TARGETS offsite RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(OFFSITE_BUNDLE)
    # An RPATH, not a RUNPATH: it holds for what the bundled libraries need themselves, too.
    set_target_properties(offsite PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/offsite")
    target_link_options(offsite PRIVATE -Wl,--disable-new-dtags)
  elseif(NOT OFFSITE_PTHREADS)
    # The OpenMP build of OpenBLAS lies outside the loader's own folders.
    set_target_properties(offsite PROPERTIES INSTALL_RPATH "${OPENBLAS_DIR}")
  endif()
  # The program writes its own pages and completions from the tables of its verbs. Not when it cannot run here.
  if(NOT CMAKE_CROSSCOMPILING AND NOT OFFSITE_SANITIZE)
    set(GENERATED ${CMAKE_BINARY_DIR}/generated)
    add_custom_command(OUTPUT ${GENERATED}/stamp
      COMMAND ${CMAKE_COMMAND} -E rm -rf ${GENERATED}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${GENERATED}
      COMMAND offsite man -o ${GENERATED}/man
      COMMAND offsite completion bash > ${GENERATED}/offsite
      COMMAND offsite completion zsh > ${GENERATED}/_offsite
      COMMAND offsite completion fish > ${GENERATED}/offsite.fish
      COMMAND ${CMAKE_COMMAND} -E touch ${GENERATED}/stamp
      DEPENDS offsite COMMENT "Writing manual pages and completion scripts" VERBATIM)
    add_custom_target(generated_pages ALL DEPENDS ${GENERATED}/stamp)
    install(DIRECTORY ${GENERATED}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
    install(FILES ${GENERATED}/offsite DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(FILES ${GENERATED}/_offsite DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
    install(FILES ${GENERATED}/offsite.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
  endif()
endif()

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
# As in the repository, so that the links between the pages hold.
install(FILES HACKING.md CONTRIBUTING.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md" PATTERN "*.svg" PATTERN "*.png")

# `cpack` in the build folder: a Debian package whose dependencies follow from what the program is linked with.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "Offsite maintainers <offsite@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "tunes language models without handing out the full model")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
if(NOT OFFSITE_PTHREADS)
  set(CPACK_DEBIAN_PACKAGE_DEPENDS libopenblas0-openmp) # of the builds of OpenBLAS the one that shares threads with the program
endif()
include(CPack)
